//! Brokers that cannot be used, or not wholly.

use super::*;

/// What `callvault check` recommends, run as it stands.
fn follow(broker: &Server, advice: &Value) {
    let advice = advice
        .as_str()
        .unwrap()
        .strip_prefix("rabbitmqctl ")
        .unwrap();
    let arguments = Command::new("sh")
        .args(["-c", &format!("printf '%s\\n' {advice}")])
        .output()
        .unwrap();
    let arguments = String::from_utf8(arguments.stdout).unwrap();
    let arguments: Vec<&str> = arguments.lines().collect();
    broker.rabbitmqctl(&arguments);
}

#[tokio::test]
async fn each_closed_door_is_told_by_its_name_with_what_opens_it() {
    let rabbit = address(servers::rabbit().await);
    let s3 = servers::s3().await;
    let web = address(s3.endpoint());
    for (url, detail, mend) in [
        (
            format!("amqp://guest:canary@{rabbit}/%2f"),
            "refuses the user or the password",
            "rabbitmqctl add_user",
        ),
        (
            format!("amqp://guest:guest@{rabbit}/nowhere"),
            "does not let callvault's user into the virtual host",
            "rabbitmqctl add_vhost",
        ),
        (
            "amqp://u:canary@127.0.0.1:1/%2f".into(),
            "Connection refused",
            "start the broker",
        ),
        (
            "amqp://u:canary@no-such-host.invalid/%2f".into(),
            "\"no-such-host.invalid\" has no address",
            "DNS",
        ),
        (
            format!("amqps://guest:guest@{rabbit}/%2f"),
            "no TLS session with the broker",
            "if the port is one without TLS",
        ),
    ] {
        let mut setup = folders(&url);
        setup.set("fetch", "allowed_hosts", r#"["a.example"]"#);
        let report = check(&setup).await;
        contains(report.only("fail", "broker", 3), detail, mend);
    }
    // A web server may wait for the end of a request that has none.
    let report = check(&folders(&format!("amqp://u:canary@{web}/%2f"))).await;
    let line = report.only("fail", "broker", 3);
    contains(line, "", "correct host and port in queue.url");
}

#[tokio::test]
async fn a_user_is_told_each_right_that_lacks_and_the_command_that_grants_it_does() {
    let broker = Server::start(Kind::RabbitMq).await;
    let mut setup = folders(broker.url());
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    drop(worker);
    let amqp = Amqp::connect(broker.url()).await;
    amqp.publish("", setup.queue(), Some("waiting"), b"{}")
        .await;
    let fresh = format!("{}-new", setup.queue());
    let of_user = broker
        .url()
        .replace("guest:guest", "reader:canary-password");
    setup.set("queue", "url", &format!("{of_user:?}"));
    broker.rabbitmqctl(&["add_user", "reader", "canary-password"]);
    let there = setup.queue().to_owned();
    // Topology that is there, and one that is not.
    for (queue, declare, lacks) in [
        (
            &there,
            "true",
            &[
                "may not bind",
                "nor configure",
                "nor publish to queues by their names",
                "nor read from",
            ][..],
        ),
        (
            &there,
            "false",
            &["publish to queues by their names: write to \"amq.default\"; nor read from"],
        ),
        (
            &fresh,
            "true",
            &["nor configure", ".retry.200ms\", \"", "nor read from"],
        ),
    ] {
        setup.set("queue", "declare", declare);
        setup.set("queue", "name", &format!("{queue:?}"));
        broker.rabbitmqctl(&["set_permissions", "reader", "^$", "^$", "^$"]);
        let report = check(&setup).await;
        assert_eq!(report.code, Some(3), "{queue} {declare}");
        let bad = report.bad();
        assert_eq!(bad[0]["what"], "rights", "{bad:#?}");
        for lack in lacks {
            contains(bad[0], lack, "rabbitmqctl set_permissions -p '/' 'reader' ");
        }
        follow(&broker, &bad[0]["mend"]);
        let report = check(&setup).await;
        assert_eq!(
            (report.code, report.bad().len()),
            (Some(0), 0),
            "{:#?}",
            report.bad()
        );
    }
    // Nothing was done to what is there.
    let message = amqp.take(&there).await.unwrap();
    assert_eq!(
        (
            message.redelivered,
            message.number("x-delivery-count").unwrap_or(0)
        ),
        (false, 0)
    );
    let queues = broker.rabbitmqctl(&["list_queues", "-q", "--no-table-headers", "name"]);
    assert_eq!(queues.lines().count(), 4, "{queues}");
    // And the least that is recommended is enough to declare the rest and work.
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
}

#[tokio::test]
async fn a_desk_that_may_not_read_is_weak_alone_and_so_is_an_alarm_that_lets_a_first_message_pass()
{
    let broker = Server::start(Kind::RabbitMq).await;
    let mut setup = folders(broker.url());
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    broker.rabbitmqctl(&["add_user", "worker", "w"]);
    // Some right to what it only looks for, as RabbitMQ 4.3 asks.
    let read = format!("^({0}|{0}-calls|{0}\\.retry\\..*)$", setup.queue());
    let write = format!("^(amq\\.default|{}\\.dead)$", setup.queue());
    broker.rabbitmqctl(&["set_permissions", "worker", "^$", &write, &read]);
    let url = broker.url().replace("guest:guest", "worker:w");
    setup.set("queue", "url", &format!("{url:?}"));
    setup.set("queue", "declare", "false");
    let report = check(&setup).await;
    contains(
        report.only("weak", "rights", 1),
        "`callvault dead` needs another user",
        "set_permissions",
    );
    assert!(report.ok("rights").contains("arguments were not looked at"));
    assert!(
        report
            .ok("messages")
            .contains("0 wait to be taken, 1 consumers are at work")
    );

    setup.set("queue", "url", &format!("{:?}", broker.url()));
    broker.rabbitmqctl(&["set_vm_memory_high_watermark", "0.00001"]);
    let report = check(&setup).await;
    contains(
        report.only("weak", "broker", 1),
        "memory or disk alarm",
        "rabbitmq-diagnostics alarms",
    );
}

#[tokio::test]
async fn queues_that_are_not_as_callvault_declares_them_are_told_with_what_follows() {
    let mut setup = Setup::folders().await;
    setup.set("queue", "retry_delays", r#"["200ms"]"#);
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let quorum = |more: &[(&'static str, AMQPValue)]| {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        for (name, value) in more {
            arguments.insert((*name).into(), value.clone());
        }
        arguments
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let name = setup.queue();
    let led = |to: &str| {
        [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(to)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]
    };
    let dead = format!("{name}.dead");
    for (queue, arguments) in [
        (name.to_owned(), quorum(&led(&dead))),
        (dead.clone(), quorum(&[])),
        (format!("{name}.retry.200ms"), quorum(&led(name))),
    ] {
        let options = QueueDeclareOptions::durable();
        let declare = amqp
            .channel()
            .queue_declare(queue.as_str().into(), options, arguments);
        declare.await.unwrap();
    }
    let options = lapin::options::ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let (exchange, direct) = (setup.exchange(), lapin::ExchangeKind::Direct);
    let nothing = FieldTable::default();
    let declare =
        amqp.channel()
            .exchange_declare(exchange.as_str().into(), direct, options, nothing);
    declare.await.unwrap();
    amqp.publish("", &dead, None, b"gone").await;

    let (name, exchange) = (name.to_owned(), exchange.clone());
    let differs = [
        (exchange, "type is direct", "say which events come"),
        (name.clone(), "x-delivery-limit is none", "kills its worker"),
        (
            dead.clone(),
            "x-delivery-limit is none",
            "deletes dead letters",
        ),
        (
            format!("{name}.retry.200ms"),
            "x-message-ttl is none",
            "comes back at another time, or never",
        ),
    ];
    let report = check(&setup).await;
    assert_eq!(report.code, Some(3), "`run` could not start");
    assert_eq!(report.bad().len(), 4, "{:#?}", report.bad());
    for (at, (what, is, _)) in differs.iter().enumerate() {
        contains(report.bad()[at], is, "");
        contains(report.bad()[at], what, "");
    }
    setup.set("queue", "declare", "false");
    let report = check(&setup).await;
    assert_eq!(report.code, Some(1), "it works, and promises less");
    for (at, (what, is, follows)) in differs.iter().enumerate() {
        contains(report.bad()[at], is, "deploy/rabbitmq/definitions.json");
        contains(report.bad()[at], what, "");
        contains(report.bad()[at], follows, "");
    }
    assert!(
        report.ok("messages").contains("1 dead letters in"),
        "{:#?}",
        report.lines
    );
}
