//! Stores that speak S3's language and lack a word of it: each lack is found, and said.

use callvault::store::{About, Promise, Put};

use crate::{
    stores::{AT_ONCE, ONE_BUCKET, body, budget, run},
    support::{config::Setup, lossy::Lossy, place::Place, servers},
};

#[tokio::test]
async fn a_clone_that_lacks_something_is_found_out_and_told_how_to_mend() {
    type Fault = fn(&Lossy);
    let cases: [(Fault, Promise, &str); 15] = [
        (
            |clone| clone.strip("if-none-match"),
            Promise::Weaker,
            "ignores create-if-absent",
        ),
        (
            |clone| clone.strip("if-match"),
            Promise::Weaker,
            "ignores the version",
        ),
        (
            |clone| clone.strip("x-amz-meta-callvault_check"),
            Promise::Weaker,
            "loses an object's metadata",
        ),
        (
            |clone| clone.strip("content-type"),
            Promise::Weaker,
            "loses an object's content type",
        ),
        (
            |clone| clone.refuse("GET", "uploads", 403),
            Promise::Weaker,
            "deploy/s3/lifecycle.json",
        ),
        (
            |clone| clone.refuse("PUT", "if-none-match", 501),
            Promise::Broken,
            "conditional_put",
        ),
        (
            |clone| clone.refuse("PUT", "if-match", 400),
            Promise::Broken,
            "conditional_put",
        ),
        (
            |clone| clone.refuse("HEAD", "check", 403),
            Promise::Broken,
            "s3:ListBucket",
        ),
        (
            |clone| clone.refuse("POST", "?delete", 403),
            Promise::Kept,
            "stays",
        ),
        (
            |clone| clone.refuse("GET", "list-type=2", 403),
            Promise::Weaker,
            "it may not be listed",
        ),
        (
            |clone| clone.refuse("POST", "?uploads", 403),
            Promise::Broken,
            "grant s3:PutObject",
        ),
        (
            |clone| clone.refuse("PUT", "partNumber", 403),
            Promise::Broken,
            "it refuses an upload in parts",
        ),
        (
            |clone| clone.refuse("DELETE", "uploadId", 403),
            Promise::Weaker,
            "grant s3:AbortMultipartUpload",
        ),
        (
            |clone| clone.ahead(60),
            Promise::Weaker,
            "clock is 59s behind the store's",
        ),
        (
            |clone| clone.ahead(-600),
            Promise::Broken,
            "timedatectl set-ntp true",
        ),
    ];
    for (fault, promise, text) in cases {
        let place = Place::s3().await;
        let clone = Lossy::before(&place.endpoint().unwrap()).await;
        fault(&clone);
        let bucket = place.open_behind(&clone, &[]);
        bucket.reach().await.unwrap();
        let found = bucket.probe().await.unwrap();
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].promise, promise, "{found:?}");
        let told = format!("{}; {}", found[0].what, found[0].mend);
        assert!(told.contains(text), "{found:?}");
    }
}

#[tokio::test]
async fn without_conditional_writes_callvault_looks_first_and_says_so() {
    let place = Place::s3().await;
    let clone = Lossy::before(&place.endpoint().unwrap()).await;
    clone.refuse("PUT", "if-none-match", 501);
    clone.refuse("PUT", "if-match", 501);
    let bucket = place.open_behind(&clone, &[("conditional_put", "disabled")]);
    let (budget, info) = (budget(&place), About::default());
    let (one, other) = (body(&budget, b"one").await, body(&budget, b"other").await);
    let put = async |body| {
        bucket
            .put("x", body, &info, &budget, AT_ONCE)
            .await
            .unwrap()
    };

    assert_eq!(put(&one).await, Put::Stored);
    assert_eq!(put(&one).await, Put::Stored);
    assert_eq!(put(&other).await, Put::Occupied);
    let found = bucket.find("x", AT_ONCE).await.unwrap().unwrap();
    let replace = async |bytes: &'static str| {
        bucket
            .replace("x", &found, bytes.into(), &info, AT_ONCE)
            .await
            .unwrap()
    };
    assert_eq!(replace("two").await, Put::Stored);
    assert_eq!(replace("three").await, Put::Occupied);
    assert_eq!(place.see("x").await.unwrap().bytes, "two");

    let found = bucket.probe().await.unwrap();
    assert!(
        matches!(&found[..], [finding] if finding.promise == Promise::Weaker),
        "{found:?}"
    );
}

#[tokio::test]
async fn check_connect_tells_of_a_clone_that_ignores_create_if_absent() {
    let place = Place::s3().await;
    let clone = Lossy::before(&place.endpoint().unwrap()).await;
    clone.strip("if-none-match");
    let mut setup = Setup::new(servers::rabbit().await);
    setup.append(&place.toml_behind("documents", &clone));
    setup.append(ONE_BUCKET);
    let config = setup.write();
    for json in [false, true] {
        let mut arguments = vec!["check", "--connect", "--config", config.to_str().unwrap()];
        arguments.extend(json.then_some("--json"));
        let output = run(&arguments).await;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{report}");
        let line = report
            .lines()
            .find(|line| line.contains("promise"))
            .unwrap();
        assert!(
            line.contains("documents: it ignores create-if-absent"),
            "{report}"
        );
        assert_eq!(line.contains("\"ok\":false"), json, "{report}");
        assert_eq!(line.starts_with("WEAK"), !json, "{report}");
    }
    assert!(place.keys().await.is_empty());
}
