//! Small events beside large work.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{attachment::Kind, check::Checker};

/// Answers with a small JSON file, or with a large one where its path says so.
async fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream));
        }
    });
    format!("http://{address}")
}

async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    let body = if head.starts_with(b"GET /large") {
        // Of 64 MiB 42 are left to one check; this tree takes 36.
        format!("[{}{{}}]", "{\"\":0},".repeat(45_000))
    } else {
        r#"{"turns": []}"#.to_owned()
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn while_a_large_check_has_the_memory_and_another_waits_small_events_are_archived() {
    let mut archivist = archivist();
    archivist.fetcher = Fetcher::new(
        &config::Fetch {
            allowed_hosts: vec!["127.0.0.1".into()],
            allow_http: true,
            allow_private_addresses: true,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
            max_redirects: 0,
            refusals: 1,
        },
        4,
    )
    .unwrap();
    archivist.budget = Budget::new(&config::Limits {
        memory: 64 << 20,
        spool: 1 << 20,
        spool_dir: std::env::temp_dir(),
        job_time: Duration::from_mins(1),
    });
    let json = Kind {
        name: "transcript".into(),
        file: glob::Pattern::new("*.json").unwrap(),
        check: Checker::Json(None),
        bucket: "documents".into(),
        max_size: 1 << 20,
    };
    let template = KeyTemplate::parse("{date}/{call_id}/{request_id}/{file}").unwrap();
    archivist.planner = Planner::new(
        vec![json],
        template,
        "documents",
        "documents",
        Tenants::new(),
    );
    let origin = origin().await;
    let job = |id: &str, file: &str| listing(id, &format!(r#"{{"url": "{origin}/{file}.json"}}"#));

    let held = archivist
        .budget
        .work(archivist.budget.most_work())
        .await
        .unwrap();
    let large = job("large", "large");
    let mut large = Box::pin(archivist.archive(&large));
    let jobs: Vec<_> = (0..20)
        .map(|n| job(&format!("small-{n}"), "small"))
        .collect();
    // The large one goes as far as it can get beside them.
    let small = join_all(jobs.iter().map(|job| archivist.archive(job)));
    let ends = tokio::select! {
        biased;
        outcome = &mut large => panic!("it took memory that is not there: {outcome:?}"),
        ends = small => ends,
    };
    for outcome in &ends {
        assert!(matches!(outcome.end, End::Archived), "{outcome:?}");
    }
    drop(held);
    let outcome = large.await;
    assert!(matches!(outcome.end, End::Archived), "{outcome:?}");
    assert_eq!(outcome.entries[0].problem_code(), None);
}
