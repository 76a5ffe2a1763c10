//! What lies in `deploy/`, loaded by the tools that it is for.

use std::{fs, time::Duration};

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::Origin,
    servers::{Kind, Server},
    worker::Worker,
};

#[tokio::test]
async fn the_brokers_definitions_are_what_callvault_declares_and_serve_where_it_may_not() {
    let broker = Server::start(Kind::RabbitMq).await;
    let definitions = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/rabbitmq/definitions.json"
    );
    // It listens a moment before it takes orders.
    broker.rabbitmqctl(&["await_startup"]);
    broker.rabbitmqctl(&["import_definitions", definitions]);

    let origin = Origin::start().await;
    let mut setup = Setup::new(broker.url());
    let folders = ["documents", "recordings", "quarantine"]
        .map(|bucket| format!("[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"));
    setup.append(&folders.concat());
    setup.set("queue", "name", "\"callvault\"");
    setup.set("queue", "exchange", "\"calls\"");
    setup.set(
        "queue",
        "retry_delays",
        r#"["10s", "1m", "10m", "1h", "6h"]"#,
    );
    let amqp = Amqp::connect(broker.url()).await;
    // First a worker that finds everything there, then one that declares it: a difference in a single
    // argument would be refused by the broker.
    for (request, declare) in [("found", "false"), ("declared", "true")] {
        setup.set("queue", "declare", declare);
        let event = String::from_utf8(call::served(&origin).to_vec()).unwrap();
        let event = event.replace("00552b38-d0e7-460f-9877-a7c8c8b2ff8c", request);
        let mut worker = Worker::start(&setup.write());
        worker.wait_log("consuming").await;
        amqp.publish("calls", "call.analyzed", None, event.as_bytes())
            .await;
        worker.wait_log("outcome=\"archived\"").await;
        let folder = setup
            .folder("documents")
            .join("2023/08/24/5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15");
        assert!(fs::exists(folder.join(request).join("manifest.json")).unwrap());
        worker.term();
        assert!(worker.wait_exit(Duration::from_secs(20)).await.success());
    }
}
