//! How callvault comes to its broker, and what it says of one that is not as it needs it.

use std::{fs, path::Path};

use lapin::{
    ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::support::{
    amqp::Amqp,
    call,
    config::{BUCKETS, Setup},
    origin::Origin,
    servers::{self, Conf, Kind, Server},
    worker::{self, Worker},
};

/// A certificate and its key as PEM, signed by `issuer`, or an authority of its own.
fn certificate(
    name: &str,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> (String, KeyPair, CertificateParams) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let signed = if let Some(issuer) = issuer {
        params.signed_by(&key, issuer).unwrap()
    } else {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap()
    };
    (signed.pem(), key, params)
}

/// An authority in `ca.pem`, a server's certificate and a client's for `callvault-worker`.
pub(crate) fn certificates(dir: &Path) {
    let (ca, ca_key, ca_params) = certificate("callvault test authority", None);
    let issuer = Issuer::new(ca_params, ca_key);
    fs::write(dir.join("ca.pem"), ca).unwrap();
    for name in ["127.0.0.1", "callvault-worker"] {
        let (pem, key, _) = certificate(name, Some(&issuer));
        fs::write(dir.join(format!("{name}.pem")), pem).unwrap();
        fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

#[tokio::test]
async fn with_tls_a_private_authority_and_a_client_certificate_are_all_it_takes() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let broker = Server::start_with(
        Kind::RabbitMq,
        &Conf {
            lines: vec![
                "listeners.ssl.1 = 127.0.0.1:{extra_port}".into(),
                format!("ssl_options.cacertfile = {}", file("ca.pem")),
                format!("ssl_options.certfile = {}", file("127.0.0.1.pem")),
                format!("ssl_options.keyfile = {}", file("127.0.0.1.key")),
                "ssl_options.verify = verify_peer".into(),
                "ssl_options.fail_if_no_peer_cert = true".into(),
                "ssl_cert_login_from = common_name".into(),
                "auth_mechanisms.1 = EXTERNAL".into(),
                "auth_mechanisms.2 = PLAIN".into(),
            ],
            plugins: vec!["rabbitmq_auth_mechanism_ssl".into()],
            ..Conf::default()
        },
    )
    .await;
    broker.rabbitmqctl(&["add_user", "callvault-worker", "a-password-nobody-uses"]);
    broker.rabbitmqctl(&["set_permissions", "callvault-worker", ".*", ".*", ".*"]);

    let origin = Origin::start().await;
    let address = format!("amqps://127.0.0.1:{}/%2f", broker.extra_port());
    // Relative to the configuration file, which lies in another folder.
    let of = |name: &str| format!("../{}/{name}", dir.path().file_name().unwrap().display());
    let mut setup = folders(&format!(
        "{address}?auth_mechanism=external&cacertfile={}&certfile={}&keyfile={}",
        of("ca.pem"),
        of("callvault-worker.pem"),
        of("callvault-worker.key"),
    ));
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(broker.url()).await;
    amqp.publish(
        &setup.exchange(),
        "call.analyzed",
        None,
        &call::served(&origin),
    )
    .await;
    worker.wait_log("outcome=\"archived\"").await;
    // Its publisher goes the same way.
    amqp.publish(&setup.exchange(), "call.analyzed", None, b"no event")
        .await;
    amqp.wait_count(&format!("{}.dead", setup.queue()), 1).await;

    // Without the authority there is no session.
    let unknown = format!("\"{address}\"");
    setup.set("queue", "url", &unknown);
    let stranger = Worker::start(&setup.write());
    stranger.wait_log("does not work; waiting for it").await;
    let log = stranger.log();
    assert!(log.contains("certificate"), "{log}");
}

fn folders(broker: &str) -> Setup {
    let mut setup = Setup::new(broker);
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
        ));
    }
    setup
}

/// What `check --connect` and `run` say of a broker.
async fn said(setup: &Setup) -> [String; 2] {
    let config = setup.write();
    let worker = Worker::start(&config);
    worker.wait_log("does not work; waiting for it").await;
    let run = worker.log();
    let output = tokio::task::spawn_blocking(move || {
        let config = config.display().to_string();
        worker::callvault(["check", "--connect", "--config", &config])
    });
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    [run, String::from_utf8(output.stdout).unwrap()]
}

#[tokio::test]
async fn a_queue_that_is_there_with_another_argument_is_named_with_what_differs() {
    let setup = Setup::folders().await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", AMQPValue::LongString("quorum".into())),
        ("x-delivery-limit", AMQPValue::LongInt(3)),
    ] {
        arguments.insert(name.into(), value);
    }
    let dead = format!("{}.dead", setup.queue());
    amqp.channel()
        .queue_declare(
            dead.as_str().into(),
            QueueDeclareOptions::durable(),
            arguments,
        )
        .await
        .unwrap();
    let worker = Worker::start(&setup.write());
    worker.wait_log("does not work; waiting for it").await;
    let log = worker.log();
    assert!(
        log.contains(&format!("the queue \\\"{dead}\\\" is there already, and its x-delivery-limit is 3 where callvault declares 2147483647")),
        "{log}"
    );
    assert!(log.contains("empty and delete the queue"), "{log}");
    // Once it is out of the way the worker goes on by itself.
    amqp.delete(&dead).await;
    worker.wait_log("works again").await;
}

#[tokio::test]
async fn an_exchange_of_another_type_is_named() {
    let setup = Setup::folders().await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    amqp.channel()
        .exchange_declare(
            setup.exchange().into(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let worker = Worker::start(&setup.write());
    worker
        .wait_log("its type is fanout where callvault declares topic")
        .await;
}

#[tokio::test]
async fn without_declare_nothing_is_made_and_what_is_missing_is_named() {
    let mut setup = Setup::folders().await;
    setup.set("queue", "declare", "false");
    for text in said(&setup).await {
        assert!(text.contains(&setup.exchange()), "{text}");
        assert!(text.contains("not there"), "{text}");
        assert!(
            text.contains("import deploy/rabbitmq/definitions.json"),
            "{text}"
        );
    }
    let amqp = Amqp::connect(servers::rabbit().await).await;
    assert_eq!(amqp.count(setup.queue()).await, None);
}

#[tokio::test]
async fn a_user_without_rights_is_told_which() {
    let broker = Server::start(Kind::RabbitMq).await;
    broker.rabbitmqctl(&["add_user", "reader", "canary-password"]);
    broker.rabbitmqctl(&["set_permissions", "reader", "^$", "^$", ".*"]);
    let url = broker
        .url()
        .replace("guest:guest", "reader:canary-password");
    let setup = folders(&url);
    let worker = Worker::start(&setup.write());
    worker.wait_log("does not work; waiting for it").await;
    let log = worker.log();
    assert!(log.contains("may not declare or use the exchange"), "{log}");
    assert!(!log.contains("canary-password"), "{log}");
}

#[tokio::test]
async fn a_worker_that_waits_for_its_broker_starts_when_it_comes() {
    let mut broker = Server::start(Kind::RabbitMq).await;
    let setup = folders(broker.url());
    broker.kill9().await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("does not work; waiting for it").await;
    broker.restart().await;
    worker.wait_log("consuming").await;
    let log = worker.log();
    let count = |text: &str| log.matches(text).count();
    assert_eq!(
        (count("does not work"), count("works again")),
        (1, 1),
        "one line when it begins and one when it ends: {log}"
    );
}
