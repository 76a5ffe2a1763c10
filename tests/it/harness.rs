//! The harness itself: that its servers, its origin and its clients do what the tests rely on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::{StatusCode, header};
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{
    amqp::Amqp,
    config::Setup,
    http_client,
    origin::{Origin, Reply},
    s3::S3,
    servers::{self, Azurite, Cluster, Conf, Gcs, Kind, Server},
    wait::eventually,
};

fn unique() -> String {
    format!("it-{}", Uuid::new_v4().simple())
}

#[tokio::test]
async fn a_published_message_comes_back_with_its_properties() {
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let queue = unique();
    assert_eq!(amqp.count(&queue).await, None);
    amqp.declare_quorum_queue(&queue).await;

    amqp.publish("", &queue, Some("id-1"), b"{}").await;
    amqp.publish("", &queue, None, b"[]").await;
    amqp.wait_count(&queue, 2).await;

    let first = amqp.wait_take(&queue).await;
    assert_eq!(
        (first.message_id(), first.body.as_slice()),
        (Some("id-1"), &b"{}"[..])
    );
    assert_eq!(
        (first.routing_key.as_str(), first.redelivered),
        (queue.as_str(), false)
    );
    let rest = amqp.take_all(&queue).await;
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].message_id(), None);
    amqp.delete(&queue).await;
    assert_eq!(amqp.count(&queue).await, None);
}

#[tokio::test]
async fn a_message_in_a_quorum_queue_survives_the_kill_of_its_broker() {
    let mut broker = Server::start(Kind::RabbitMq).await;
    let url = broker.url().to_owned();
    let amqp = Amqp::connect(&url).await;
    amqp.declare_quorum_queue("survivors").await;
    amqp.publish("", "survivors", Some("id-1"), b"still here")
        .await;
    broker.wait_registered("survivors").await;

    broker.kill9().await;
    assert!(Amqp::try_connect(&url).await.is_err());
    broker.restart().await;

    assert_eq!(broker.url(), url);
    // Until the queue has a leader again, its operations hang.
    let message = eventually(
        Duration::from_secs(30),
        "the message, after the restart",
        async || {
            let amqp = Amqp::try_connect(&url).await.ok()?;
            timeout(Duration::from_secs(5), amqp.take("survivors"))
                .await
                .ok()?
        },
    )
    .await;
    assert_eq!(
        (message.message_id(), message.body.as_slice()),
        (Some("id-1"), &b"still here"[..])
    );
}

#[tokio::test]
async fn a_cluster_keeps_a_quorum_queue_when_its_leader_is_killed() {
    let mut cluster = Cluster::start().await;
    let first = Amqp::connect(cluster.url(0)).await;
    first.declare_quorum_queue("survivors").await;
    let members = cluster.rabbitmqctl(1, &["list_queues", "-q", "--no-table-headers", "members"]);
    assert_eq!(members.matches("@localhost").count(), 3, "{members}");
    first.publish("", "survivors", Some("id-1"), b"{}").await;

    let leader = cluster.leader_of("survivors").await;
    cluster.kill9(leader).await;
    let next = cluster.leader_of("survivors").await;
    assert_ne!(next, leader);
    let other = (0..3).find(|node| ![leader, next].contains(node)).unwrap();
    let amqp = Amqp::connect(cluster.url(other)).await;
    let message = amqp.wait_take("survivors").await;
    assert_eq!(message.message_id(), Some("id-1"));

    // Again a full member: with the new leader gone, it and the third are the majority.
    cluster.restart(leader).await;
    cluster.kill9(next).await;
    cluster.leader_of("survivors").await;
    let amqp = Amqp::connect(cluster.url(leader)).await;
    amqp.publish("", "survivors", Some("id-2"), b"{}").await;
    assert_eq!(amqp.wait_take("survivors").await.message_id(), Some("id-2"));
}

#[tokio::test]
async fn a_private_broker_keeps_its_extra_configuration_over_a_restart() {
    let conf = Conf {
        lines: vec!["listeners.tcp.2 = 127.0.0.1:{extra_port}".to_owned()],
        terms: vec!["{channel_tick_interval, 1234}".to_owned()],
        plugins: vec!["rabbitmq_auth_mechanism_ssl".to_owned()],
        ..Conf::default()
    };
    let mut broker = Server::start_with(Kind::RabbitMq, &conf).await;
    for round in ["started", "restarted"] {
        let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", broker.extra_port());
        Amqp::connect(&url).await;
        let settings = "{ok, T} = application:get_env(rabbit, channel_tick_interval), \
                        {T, lists:member(rabbitmq_auth_mechanism_ssl, rabbit_plugins:active())}.";
        let answer = broker.rabbitmqctl(&["eval", settings]);
        assert_eq!(answer.trim(), "{1234,true}", "{round}");
        if round == "started" {
            broker.kill9().await;
            broker.restart().await;
        }
    }
}

#[tokio::test]
async fn an_object_comes_back_with_its_metadata_and_is_not_overwritten() {
    let s3 = servers::s3().await;
    let key = format!("{}/2023/08/24/recording.wav", unique());
    let headers = [
        ("content-type", "audio/x-wav"),
        ("x-amz-meta-call_id", "5e09"),
        ("if-none-match", "*"),
    ];
    assert_eq!(s3.get(S3::BUCKET, &key).await, None);

    assert_eq!(
        s3.put(S3::BUCKET, &key, &headers, "first").await,
        StatusCode::OK
    );
    assert_eq!(
        s3.put(S3::BUCKET, &key, &headers, "second").await,
        StatusCode::PRECONDITION_FAILED
    );

    let (headers, body) = s3.get(S3::BUCKET, &key).await.unwrap();
    assert_eq!(
        (&headers["content-type"], &headers["x-amz-meta-call_id"]),
        (&"audio/x-wav".parse().unwrap(), &"5e09".parse().unwrap())
    );
    assert_eq!(body, "first");
    assert_eq!(
        s3.head(S3::BUCKET, &key).await.unwrap()["content-length"],
        "5"
    );
    assert_eq!(
        s3.list(S3::BUCKET, key.split('/').next().unwrap()).await,
        [key]
    );
}

#[tokio::test]
#[ignore = "needs tests/run --all-stores"]
async fn azurite_keeps_a_blob_with_its_metadata_and_refuses_to_overwrite_it() {
    let (azurite, client) = (servers::azurite().await, http_client());
    let blob = format!(
        "{}/{}/{}/recording.wav?{}",
        azurite.url,
        Azurite::CONTAINER,
        unique(),
        Azurite::SIGNATURE
    );
    let put = async |body: &'static str| {
        let request = client
            .put(&blob)
            .header("x-ms-blob-type", "BlockBlob")
            .header("x-ms-meta-call_id", "5e09")
            .header("if-none-match", "*");
        request.body(body).send().await.unwrap().status()
    };
    assert_eq!(put("first").await, StatusCode::CREATED);
    assert_eq!(put("second").await, StatusCode::CONFLICT);

    let answer = client.get(&blob).send().await.unwrap();
    assert_eq!(answer.headers()["x-ms-meta-call_id"], "5e09");
    assert_eq!(answer.bytes().await.unwrap(), "first");
}

#[tokio::test]
#[ignore = "needs tests/run --all-stores"]
async fn fake_gcs_keeps_an_object_with_its_metadata_and_refuses_to_overwrite_it() {
    let (gcs, client) = (servers::gcs().await, http_client());
    let name = unique();
    let put = async |body: &str| {
        let about = format!(r#"{{"name": "{name}", "metadata": {{"call_id": "5e09"}}}}"#);
        let body = format!(
            "--part\r\ncontent-type: application/json\r\n\r\n{about}\r\n\
             --part\r\ncontent-type: text/plain\r\n\r\n{body}\r\n--part--\r\n"
        );
        let request = client
            .post(format!(
                "{}/upload/storage/v1/b/{}/o?uploadType=multipart&ifGenerationMatch=0",
                gcs.url,
                Gcs::BUCKET
            ))
            .header("content-type", "multipart/related; boundary=part");
        request.body(body).send().await.unwrap().status()
    };
    assert_eq!(put("first").await, StatusCode::OK);
    assert_eq!(put("second").await, StatusCode::PRECONDITION_FAILED);

    let object = format!("{}/storage/v1/b/{}/o/{name}", gcs.url, Gcs::BUCKET);
    let about = client.get(&object).send().await.unwrap();
    let about: serde_json::Value = serde_json::from_slice(&about.bytes().await.unwrap()).unwrap();
    assert_eq!(about["metadata"]["call_id"], "5e09");
    let media = client.get(format!("{object}?alt=media"));
    assert_eq!(media.send().await.unwrap().bytes().await.unwrap(), "first");
}

#[tokio::test]
async fn the_origin_serves_files_and_counts_requests() {
    let origin = Origin::start().await;
    origin.put("/a/recording.wav", "RIFF", "audio/x-wav");
    let client = http_client();

    let response = client
        .get(origin.url("/a/recording.wav?signature=x"))
        .send()
        .await
        .unwrap();

    assert_eq!(
        (response.status(), response.content_length()),
        (StatusCode::OK, Some(4))
    );
    assert_eq!(response.headers()[header::CONTENT_TYPE], "audio/x-wav");
    assert_eq!(response.bytes().await.unwrap(), "RIFF");
    assert_eq!(
        client
            .get(origin.url("/none"))
            .send()
            .await
            .unwrap()
            .status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        (
            origin.hits("/a/recording.wav"),
            origin.hits("/none"),
            origin.hits("/never")
        ),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn the_origin_fails_the_first_requests_and_then_works() {
    let origin = Origin::start().await;
    origin.put("/f", "body", "text/plain");
    origin.first("/f", 2, &Reply::Status(503));
    origin.first("/f", 1, &Reply::Redirect("/elsewhere".to_owned()));
    let client = http_client();

    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(
            client
                .get(origin.url("/f"))
                .send()
                .await
                .unwrap()
                .status()
                .as_u16(),
        );
    }

    assert_eq!(statuses, [503, 503, 302, 200]);
    assert_eq!(origin.hits("/elsewhere"), 0);
}

#[tokio::test]
async fn the_origin_cuts_a_body_short() {
    let origin = Origin::start().await;
    origin.put("/f", vec![7; 100_000], "audio/x-wav");
    origin.always("/f", Reply::CutAt(60_000));

    let mut response = http_client().get(origin.url("/f")).send().await.unwrap();

    assert_eq!(response.content_length(), Some(100_000));
    let mut received = 0;
    let error = loop {
        match response.chunk().await {
            Ok(chunk) => received += chunk.expect("an error before the end").len(),
            Err(error) => break error,
        }
    };
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    assert_eq!(received, 60_000);
}

#[tokio::test]
async fn the_origin_falls_silent() {
    let origin = Origin::start().await;
    origin.put("/f", vec![7; 1000], "audio/x-wav");
    let client = http_client();

    origin.first("/f", 1, &Reply::Mute);
    let mute = client
        .get(origin.url("/f"))
        .timeout(Duration::from_millis(200))
        .send()
        .await;
    assert!(mute.unwrap_err().is_timeout());

    origin.first("/f", 1, &Reply::StallAt(10));
    let mut stalled = client.get(origin.url("/f")).send().await.unwrap();
    assert_eq!(
        stalled.chunk().await.unwrap(),
        Some(Bytes::from_static(&[7; 10]))
    );
    assert!(
        timeout(Duration::from_millis(200), stalled.chunk())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_origin_sends_slowly_or_without_a_length() {
    let origin = Origin::start().await;
    origin.put("/f", vec![7; 1000], "audio/x-wav");
    let client = http_client();

    origin.first(
        "/f",
        1,
        &Reply::Drip {
            bytes: 250,
            pause: Duration::from_millis(50),
        },
    );
    let start = Instant::now();
    assert_eq!(
        client
            .get(origin.url("/f"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap()
            .len(),
        1000
    );
    assert!(start.elapsed() >= Duration::from_millis(200));

    origin.first("/f", 1, &Reply::Chunked);
    let chunked = client.get(origin.url("/f")).send().await.unwrap();
    assert_eq!(chunked.content_length(), None);
    assert_eq!(chunked.bytes().await.unwrap().len(), 1000);
}

#[test]
fn a_setup_can_be_changed_key_by_key() {
    let mut setup = Setup::new("amqp://127.0.0.1/%2f");
    setup
        .set("queue", "prefetch", "1")
        .set("queue", "declare", "false")
        .append("[archive]")
        .set("archive", "a", "2");

    let toml = setup.toml();
    assert_eq!(toml.matches("prefetch").count(), 1);
    assert!(toml.contains("\nprefetch = 1\n"), "{toml}");
    assert!(toml.contains("[queue]\ndeclare = false\n"), "{toml}");
    assert!(toml.ends_with("[archive]\na = 2\n"), "{toml}");
    assert_ne!(setup.name, Setup::new("").name);
}
