//! Stores that cannot be reached, or refuse.

use super::*;
use crate::support::s3::S3;

/// Everything in one bucket of a store.
fn at(endpoint: &str, url: &str, options: &str) -> Setup {
    let mut setup = Setup::new("amqp://guest:guest@127.0.0.1:1/%2f");
    setup.append(crate::stores::ONE_BUCKET);
    setup.append(&format!(
        "[buckets.documents]\nurl = \"{url}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", allow_http = \"true\", {options} }}\n"
    ));
    setup
}

const ANYBODY: &str = r#"access_key_id = "any", secret_access_key = "any""#;

/// What is found of the bucket, where the broker is known to be away.
async fn found(setup: &Setup) -> Vec<Value> {
    let report = check(setup).await;
    let bad = report
        .bad()
        .into_iter()
        .filter(|line| line["what"] != "broker");
    bad.cloned().collect()
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_told_with_what_to_do_first() {
    let s3 = servers::s3().await;
    let endpoint = s3.endpoint();
    let tls = endpoint.replace("http://", "https://");
    let ours = format!("s3://{}/x", S3::BUCKET);
    for (endpoint, url, detail, mend) in [
        (
            "http://127.0.0.1:1",
            &*ours,
            "Connection refused",
            "start the store",
        ),
        (
            "http://no-such-host.invalid",
            &ours,
            "dns error",
            "correct the endpoint's host",
        ),
        (
            &tls,
            &ours,
            "InvalidContentType",
            "the endpoint speaks no TLS",
        ),
        (
            endpoint,
            "s3://no-such-bucket-of-ours",
            "NoSuchBucket",
            "create the bucket",
        ),
    ] {
        let found = found(&at(endpoint, url, ANYBODY)).await;
        assert_eq!(
            (found.len(), &found[0]["what"]),
            (1, &"bucket".into()),
            "{found:#?}"
        );
        contains(&found[0], detail, mend);
    }
}

const IDENTITIES: &str = r#"{"identities": [
    {"name": "anonymous", "actions": ["Admin", "Read", "List", "Write"]},
    {"name": "all", "credentials": [{"accessKey": "all", "secretKey": "canary"}], "actions": ["Admin", "Read", "List", "Write", "Tagging"]},
    {"name": "reader", "credentials": [{"accessKey": "reader", "secretKey": "canary"}], "actions": ["Read", "List"]}
]}"#;

#[tokio::test]
async fn credentials_that_are_wrong_or_may_too_little_are_told_apart() {
    let conf = Conf {
        identities: IDENTITIES.into(),
        ..Conf::default()
    };
    let store = Server::start_with(Kind::SeaweedFs, &conf).await;
    let url = format!("s3://{}/x", S3::BUCKET);
    let with = |id: &str, secret: &str| {
        let options = format!("access_key_id = \"{id}\", secret_access_key = \"{secret}\"");
        at(store.url(), &url, &options)
    };
    assert_eq!(found(&with("all", "canary")).await, Vec::<Value>::new());
    for (id, secret, detail, mend) in [
        (
            "nobody",
            "canary",
            "InvalidAccessKeyId",
            "the store does not know them",
        ),
        (
            "all",
            "canary-of-another",
            "SignatureDoesNotMatch",
            "their secret part is another one",
        ),
        (
            "reader",
            "canary",
            "AccessDenied",
            "grant the credentials the right",
        ),
    ] {
        let found = found(&with(id, secret)).await;
        assert_eq!(
            (found.len(), &found[0]["what"]),
            (1, &"bucket".into()),
            "{found:#?}"
        );
        contains(&found[0], detail, mend);
    }
}

#[tokio::test]
async fn a_policy_against_unsigned_parts_is_found_before_the_first_large_recording_is() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    certificates(dir.path());
    let place = Place::s3().await;
    let clone = Lossy::before(&place.endpoint().unwrap()).await;
    clone.refuse("PUT", "UNSIGNED-PAYLOAD", 403);
    let tls = Tls::before(&address(clone.url()), dir.path(), "127.0.0.1").await;
    let endpoint = format!("https://{}", tls.address());
    let url = format!("s3://{}/{}", S3::BUCKET, place.whole(""));
    let url = url.trim_end_matches('/');
    let trusting = async |options: &str| {
        let setup = at(&endpoint, url, options);
        let mut check = connecting(&setup.write());
        check.env("SSL_CERT_FILE", dir.path().join("ca.pem"));
        let report = Report::of(&output(check).await);
        let bad = report
            .bad()
            .into_iter()
            .filter(|line| line["what"] != "broker");
        bad.cloned().collect::<Vec<_>>()
    };
    let refused = trusting(ANYBODY).await;
    assert_eq!(
        (refused.len(), &refused[0]["state"]),
        (1, &"fail".into()),
        "{refused:#?}"
    );
    contains(
        &refused[0],
        "refuses an upload in parts",
        "unsigned_payload = \"false\"",
    );
    let signed = format!("{ANYBODY}, unsigned_payload = \"false\"");
    assert_eq!(trusting(&signed).await, Vec::<Value>::new());
    // Who is not trusted is told apart from who does not answer.
    let untrusted = found(&at(&endpoint, url, ANYBODY)).await;
    contains(&untrusted[0], "UnknownIssuer", "SSL_CERT_FILE");
}

#[tokio::test]
async fn what_a_clouds_variables_say_of_connections_counts_and_options_come_first() {
    let s3 = servers::s3().await;
    let url = format!("s3://{}/x", S3::BUCKET);
    let mut setup = Setup::new("amqp://guest:guest@127.0.0.1:1/%2f");
    setup.append(crate::stores::ONE_BUCKET);
    let endpoint = s3.endpoint();
    setup.append(&format!(
        "[buckets.documents]\nurl = \"{url}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", {ANYBODY} }}\n"
    ));
    let with = async |variables: &[(&str, &str)]| {
        let mut check = connecting(&setup.write());
        check.envs(variables.iter().copied());
        let report = Report::of(&output(check).await);
        let bad = report.lines.into_iter();
        bad.filter(|line| line["state"] == "fail" && line["what"] != "broker")
            .collect::<Vec<_>>()
    };
    contains(
        &with(&[]).await[0],
        "it is an http:// URL, without TLS; use https://",
        "",
    );
    assert_eq!(
        with(&[("AWS_ALLOW_HTTP", "true")]).await,
        Vec::<Value>::new()
    );
    let proxied = with(&[
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_PROXY_URL", "http://u:canary@127.0.0.1:1"),
    ])
    .await;
    contains(&proxied[0], "Connection refused", "");
    let wrong = with(&[
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_PROXY_URL", "http://u:canary@127.0.0.1:1\n"),
    ])
    .await;
    contains(&wrong[0], "AWS_PROXY_URL: a control character in it", "");
}
