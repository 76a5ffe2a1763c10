//! `/readyz`: each reason, for its real cause, and no longer than that.

use std::{fs, time::Duration};

use lapin::{
    options::{BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use super::{DEADLINE, promtool};
use crate::support::{
    amqp::Amqp,
    call,
    config::{BUCKETS, Setup},
    gateway::{Gateway, Rule},
    origin::{Origin, Reply},
    s3::S3,
    servers,
    wait::eventually,
    worker::Worker,
};

#[tokio::test]
async fn while_a_bucket_does_not_work_a_worker_is_not_ready_and_says_which_and_how_many_wait() {
    let (mut setup, origin) = (Setup::new(servers::rabbit().await), Origin::start().await);
    let gateway = Gateway::before(servers::s3().await.endpoint()).await;
    for bucket in BUCKETS {
        let (url, endpoint) = (setup.prefix(bucket), gateway.endpoint());
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"s3://{}/{url}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", \
             allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\" }}\n",
            S3::BUCKET,
        ));
    }
    let worker = Worker::start(&setup.write());
    worker.wait_readyz(200).await;
    let waiting = "callvault_store_waiting{bucket=\"documents\"}";
    assert_eq!(worker.metrics().await.count(waiting), 0);

    gateway.set(Rule::Busy);
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let event = call::with_recording(&origin, "/recording.wav");
    amqp.publish("", setup.queue(), None, &event).await;
    let reason = worker.wait_readyz(503).await;
    assert!(
        reason.starts_with("bucket documents does not work since 2"),
        "{reason}"
    );
    assert!(reason.contains("1 operation waits for it"), "{reason}");
    assert!(reason.contains("503"), "{reason}");
    assert_eq!(reason.lines().count(), 1, "{reason}");
    let found = worker.metrics().await;
    assert_eq!(found.count(waiting), 1);
    assert_eq!(
        found.count("callvault_store_waiting{bucket=\"recordings\"}"),
        0
    );
    assert_eq!(found.count("callvault_ready"), 0);
    assert_eq!(found.count("callvault_broker_connected"), 1);
    assert_eq!(worker.get("/livez").await.0, 200);

    gateway.set(Rule::Pass);
    worker.wait_readyz(200).await;
    assert_eq!(worker.metrics().await.count(waiting), 0);
}

#[tokio::test]
async fn without_its_spool_folder_a_worker_is_not_ready_until_it_is_back() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    let spool = setup.dir().join("spool");
    fs::create_dir(&spool).unwrap();
    setup.set("limits", "spool_dir", "\"spool\"");
    let worker = Worker::start(&setup.write());
    worker.wait_readyz(200).await;

    fs::remove_dir(&spool).unwrap();
    // More than lies in memory.
    origin.put("/recording.wav", call::wav(5_000_000), "audio/x-wav");
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let event = call::with_urls(&[&origin.url("/recording.wav")]);
    amqp.publish("", setup.queue(), None, &event).await;
    let reason = worker.wait_readyz(503).await;
    assert!(
        reason.starts_with("the spool folder does not work since"),
        "{reason}"
    );

    fs::create_dir(&spool).unwrap();
    worker.wait_readyz(200).await;
}

#[tokio::test]
async fn a_worker_that_stops_is_not_ready_and_lives_until_it_has_finished() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let event = call::with_recording(&origin, "/recording.wav");
    let pause = Duration::from_millis(500);
    origin.always("/recording.wav", Reply::Drip { bytes: 400, pause });
    let mut worker = Worker::start(&setup.write());
    worker.wait_readyz(200).await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish("", setup.queue(), None, &event).await;
    eventually(DEADLINE, "the download to begin", async || {
        (origin.hits("/recording.wav") > 0).then_some(())
    })
    .await;
    worker.term();
    let reason = worker.wait_readyz(503).await;
    assert_eq!(reason, "stopping\n");
    assert_eq!(worker.get("/livez").await.0, 200);
    let found = worker.metrics().await;
    assert_eq!(found.count("callvault_in_flight_events"), 1);
    assert_eq!(
        found.count("callvault_broker_connected"),
        1,
        "it has yet to acknowledge"
    );
    assert!(worker.wait_exit(DEADLINE).await.success());
    assert_eq!(amqp.count(setup.queue()).await, Some(0));
}

/// As an operator may find it: the queue was declared by somebody else, with a single active consumer, and there is one.
#[tokio::test]
async fn a_worker_that_is_passed_over_while_messages_wait_says_so_until_one_comes() {
    let mut setup = Setup::folders().await;
    setup
        .set("queue", "declare", "false")
        .set("queue", "retry_delays", "[]");
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.declare_quorum_queue(&format!("{}.dead", setup.queue()))
        .await;
    let exchange = amqp.channel().exchange_declare(
        setup.exchange().as_str().into(),
        lapin::ExchangeKind::Topic,
        ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        },
        FieldTable::default(),
    );
    exchange.await.unwrap();
    let mut arguments = FieldTable::default();
    let quorum = AMQPValue::LongString("quorum".into());
    arguments.insert("x-queue-type".into(), quorum);
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    let declare = amqp.channel().queue_declare(
        setup.queue().into(),
        QueueDeclareOptions::durable(),
        arguments,
    );
    declare.await.unwrap();
    let other = Amqp::connect(servers::rabbit().await).await;
    let one = other.channel().basic_qos(1, BasicQosOptions::default());
    one.await.unwrap();
    let _consumer = other
        .channel()
        .basic_consume(
            setup.queue().into(),
            "holds on to one".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();

    let worker = Worker::start(&setup.write());
    worker.wait_readyz(200).await;
    for _ in 0..3 {
        amqp.publish("", setup.queue(), None, call::STARTED.as_bytes())
            .await;
    }
    let reason = worker.wait_readyz(503).await;
    assert!(
        reason.starts_with("messages wait and none comes: 2 are ready"),
        "{reason}"
    );
    assert!(reason.contains("x-single-active-consumer"), "{reason}");
    let found = worker.metrics().await;
    let ready = format!("callvault_queue_messages{{queue=\"{}\"}}", setup.queue());
    assert_eq!(
        (found.count("callvault_ready"), found.count(&ready)),
        (0, 2)
    );
    assert_eq!(promtool(&found.text), "");

    // The other goes, and the worker is the next.
    let gone = other.channel().close(200, "gone".into());
    gone.await.unwrap();
    worker.wait_readyz(200).await;
    amqp.wait_count(setup.queue(), 0).await;
}
