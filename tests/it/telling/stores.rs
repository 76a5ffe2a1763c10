//! Stores that do not work: their pages repeat what they were asked with, signatures and tokens included.

use super::{
    DEADLINE, SECRET, assert_tells_nothing, consuming,
    gossip::{Gossip, answer},
    run, said, talkative,
};
use crate::support::{
    amqp::Amqp,
    call,
    config::{BUCKETS, Setup},
    origin::Origin,
    servers,
    wait::eventually,
    worker::Worker,
};

/// S3's answer to a signature that is wrong, with all that S3 puts there, and to a token that is.
fn page() -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SignatureDoesNotMatch</Code>\
         <Message>The signature does not match.</Message><AWSAccessKeyId>{SECRET}-id</AWSAccessKeyId>\
         <StringToSign>AWS4-HMAC-SHA256 {SECRET}</StringToSign><SignatureProvided>{SECRET}</SignatureProvided>\
         <CanonicalRequest>PUT\nx-amz-security-token:{SECRET}</CanonicalRequest><Token-0>{SECRET}</Token-0></Error>"
    )
}

fn s3(setup: &mut Setup, endpoint: &str) {
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"s3://bucket/{bucket}\"\noptions = {{ endpoint = \"{endpoint}\", \
             region = \"us-east-1\", allow_http = \"true\", access_key_id = \"{SECRET}-id\", \
             secret_access_key = \"{SECRET}\", session_token = \"{SECRET}\" }}\n"
        ));
    }
}

#[tokio::test]
async fn of_what_a_failing_store_answers_only_code_and_message_are_told() {
    let (origin, store) = (Origin::start().await, Gossip::start().await);
    let page = page();
    let html = format!("<html>{SECRET}</html>");
    for (status, body, told) in [
        (
            "403 Forbidden",
            &page,
            "SignatureDoesNotMatch: The signature does not match.",
        ),
        (
            "400 Bad Request",
            &page,
            "SignatureDoesNotMatch: The signature does not match.",
        ),
        ("503 Slow Down", &html, "503"),
        ("302 Found", &html, "cannot reach the store"),
    ] {
        let more =
            format!("x-amz-request-id: {SECRET}\r\nlocation: http://u:{SECRET}@h/?{SECRET}\r\n");
        store.otherwise(answer(&format!("{status}\r\n{more}"), body.as_bytes()));
        let mut setup = Setup::new(servers::rabbit().await);
        s3(&mut setup, &format!("http://{}", store.address()));
        let amqp = Amqp::connect(servers::rabbit().await).await;
        let worker = Worker::spawn(talkative(&setup, &["run"]), setup.dir());
        worker.wait_log(consuming("text")).await;
        let event = call::served(&origin);
        amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
            .await;
        let part = format!("{status}, in the log");
        eventually(DEADLINE, &part, async || {
            let log = worker.log();
            log.contains("does not work").then_some(())
        })
        .await;
        assert_tells_nothing(&part, &worker.log());
        drop(worker);
        for command in [
            &["check", "--connect"][..],
            &["check", "--connect", "--json"],
        ] {
            let output = run(talkative(&setup, command)).await;
            assert_eq!(output.status.code(), Some(3), "{}", said(&output));
            assert!(said(&output).contains(told), "{}", said(&output));
            assert_tells_nothing(&format!("check, at {status}"), &said(&output));
        }
    }
}

#[tokio::test]
async fn a_sweep_and_an_archive_of_a_store_that_is_gone_tell_no_credential() {
    let origin = Origin::start().await;
    let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
    s3(&mut setup, "http://127.0.0.1:1");
    let file = setup.dir().join("event.json");
    std::fs::write(&file, call::served(&origin)).unwrap();
    let file = file.to_str().unwrap();
    for command in [
        &["sweep"][..],
        &["sweep", "--json"],
        &["check", "--connect"],
    ] {
        let output = run(talkative(&setup, command)).await;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert_tells_nothing(command[0], &said(&output));
    }
    // Waits a minute for its store; what it says meanwhile is what matters.
    let worker = Worker::spawn(talkative(&setup, &["archive", file]), setup.dir());
    worker.wait_log("does not work; waiting for it").await;
    assert_tells_nothing("archive", &worker.log());
}

#[tokio::test]
async fn azure_and_google_credentials_are_told_to_nobody() {
    let store = Gossip::start().await;
    let page = format!(
        "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.</Message>\
         <AuthenticationErrorDetail>The MAC signature {SECRET} is not the same as any computed</AuthenticationErrorDetail></Error>"
    );
    store.otherwise(answer("403 Forbidden\r\n", page.as_bytes()));
    let at = format!("http://{}", store.address());
    // Base64 of a text with the secret in it, as an account's key is.
    let key = "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LWNhbmFyeQ==";
    let azure = |credential: &str| {
        format!(
            "url = \"az://container/calls\"\noptions = {{ account_name = \"callvault\", endpoint = \"{at}\", \
             allow_http = \"true\", {credential} }}"
        )
    };
    let google = |credential: &str| {
        format!("url = \"gs://bucket/calls\"\noptions = {{ base_url = \"{at}\", {credential} }}")
    };
    for (bucket, exit) in [
        (azure(&format!("account_key = \"{key}\"")), 3),
        (azure(&format!("sas_token = \"?sv=2024&sig={SECRET}\"")), 3),
        (azure(&format!("bearer_token = \"{SECRET}\"")), 3),
        (
            azure(&format!("account_key = \"{SECRET} is no base64!\"")),
            2,
        ),
        (
            google(&format!(
                "service_account_key = '{{\"private_key\": \"{SECRET}\"}}'"
            )),
            2,
        ),
        (google(&format!("service_account_key = '{SECRET}'")), 2),
    ] {
        let mut setup = Setup::new("amqp://127.0.0.1:1/%2f");
        for name in BUCKETS {
            setup.append(&format!("[buckets.{name}]\n{bucket}\n"));
        }
        let output = run(talkative(&setup, &["check", "--connect"])).await;
        assert_eq!(
            output.status.code(),
            Some(exit),
            "{bucket}: {}",
            said(&output)
        );
        assert_tells_nothing(&bucket, &said(&output));
    }
}
