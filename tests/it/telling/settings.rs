//! Settings of a store that its client would panic over, or repeat, wherever they are from: `check` tells
//! each, all of them at once, and none of their secrets.

use std::{fs, process::Command};

use serde_json::Value;

use super::{SECRET, assert_keeps_secrets, said, talkative_at};

const REST: &str = "[archive]\nmanifest_bucket = \"b\"\nquarantine_bucket = \"b\"\n\
    [attachments.all]\nfile = \"*\"\nbucket = \"b\"\ncheck = \"none\"\n";
const NO_URL: &str = "is not a URL; write http://HOST:PORT or https://HOST:PORT";
const NEWLINE: &str =
    "a control character in it, often a newline at its end; take it away (printf %s, not echo)";
const NO_NAME: &str =
    "not a name: it is empty, or has more than letters, digits, \".\", \"_\" and \"-\"; ";
const USER: &str = "credentials in the URL; leave them out";
const FILE: &str =
    "the file that it names cannot be read: No such file or directory (os error 2); ";

/// What `check` says of a bucket at a URL, with options and environment: its mistakes.
#[track_caller]
fn mistakes(url: &str, options: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = dir.path().join("callvault.toml");
    let buckets = format!("[buckets.b]\nurl = \"{url}\"\noptions = {{ {options} }}\n{REST}");
    fs::write(&config, &buckets).unwrap();
    let check = |arguments: &[&str]| {
        let mut check: Command = talkative_at(&config, arguments);
        let output = check.envs(environment.iter().copied()).output().unwrap();
        assert_keeps_secrets(&buckets, &said(&output));
        (output.status.code(), output.stdout)
    };
    let (exit, _) = check(&["check"]);
    let (exit_again, lines) = check(&["check", "--json"]);
    assert_eq!(exit, exit_again, "{buckets}");
    let lines = String::from_utf8(lines).unwrap();
    let wrong: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["ok"] == false)
        .map(|line| line["detail"].as_str().unwrap().to_owned())
        .collect();
    let expected = if wrong.is_empty() { 0 } else { 2 };
    assert_eq!(exit, Some(expected), "{buckets} {environment:?}: {wrong:?}");
    let prefix = format!("{}:", config.display());
    let short = wrong.iter().map(|text| text.replace(&prefix, ""));
    short.collect()
}

/// That a store's options and environment have one mistake, which begins like this.
#[track_caller]
fn assert_told(url: &str, options: &str, environment: &[(&str, &str)], expected: &str) {
    let told = mistakes(url, options, environment);
    assert!(
        told.len() == 1 && told[0].starts_with(expected),
        "{url} {options} {environment:?}\n  said: {told:#?}\n  not:  {expected}"
    );
}

/// Of an option, as TOML has it, and of the environment variable for the same.
#[track_caller]
fn assert_both(url: &str, option: &str, variable: &str, value: &str, rest: &str, expected: &str) {
    let options = format!("{rest}{option} = {value:?}");
    let at = format!("3: buckets.b.options.{option}: {expected}");
    assert_told(url, &options, &[], &at);
    let at = format!("{variable}: {expected}");
    let rest = rest.trim_end_matches(", ");
    assert_told(url, rest, &[(variable, value)], &at);
}

#[test]
fn settings_that_are_right_are_no_mistakes() {
    for (url, options, environment) in [
        (
            "s3://b",
            "region = 'eu-central-1', endpoint = 'https://h:8333/path'",
            &[][..],
        ),
        (
            "s3://b",
            "endpoint = 'http://[::1]:8333', allow_http = 'true'",
            &[],
        ),
        (
            "s3://b",
            "endpoint = 'https://h', proxy_url = 'http://u:canary@h:3128'",
            &[],
        ),
        (
            "s3://b",
            "",
            &[
                ("AWS_ENDPOINT_URL", "https://store.example.com/"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_SECRET_ACCESS_KEY", "canary/+=@ canary"),
                ("AWS_ACCESS_KEY_ID", "canary"),
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "http://169.254.170.23/v1/credentials?a=b",
                ),
            ],
        ),
        // Overridden: it says nothing.
        (
            "s3://b",
            "region = 'x', endpoint = 'https://h'",
            &[("AWS_REGION", "a b"), ("AWS_ENDPOINT_URL", "h:1")],
        ),
        (
            "az://$web",
            "account_name = 'a', sas_token = 'sv=1&sig=canary%2F'",
            &[],
        ),
        (
            "az://b",
            "account_name = 'a', endpoint = 'https://h:10000/a'",
            &[("AZURE_TENANT_ID", "a.onmicrosoft.com")],
        ),
        (
            "gs://b",
            "bearer_token = 'canary', skip_signature = 'true', base_url = 'http://h:4443'",
            &[],
        ),
    ] {
        assert_eq!(
            mistakes(url, options, environment),
            [""; 0],
            "{options} {environment:?}"
        );
    }
}

#[test]
fn an_address_that_no_request_can_be_sent_to_is_a_mistake() {
    for (value, what) in [
        ("localhost", "\"localhost\" "),
        ("seaweed:8333", "\"seaweed:8333\" "),
        ("127.0.0.1:9", "\"127.0.0.1:9\" "),
        ("http://", "this value "),
        ("https:h", "this value "),
        ("http:///h", "this value "),
        ("http://[::1", "this value "),
        ("http://127.0.0.1:99999", "this value "),
        ("http://a b", "this value "),
        ("https://h/a b", "this value "),
        ("https://hö", "this value "),
        ("https://h%41", "this value "),
        ("ftp://h", "this value "),
        (SECRET, "this value "),
    ] {
        let (s3, azure) = (
            "allow_http = 'true', ",
            "allow_http = 'true', account_name = 'a', ",
        );
        let expected = format!("{what}{NO_URL}");
        assert_both(
            "s3://b",
            "endpoint",
            "AWS_ENDPOINT_URL",
            value,
            s3,
            &expected,
        );
        assert_both(
            "az://b",
            "endpoint",
            "AZURE_STORAGE_ENDPOINT",
            value,
            azure,
            &expected,
        );
        assert_both(
            "gs://b",
            "base_url",
            "GOOGLE_BASE_URL",
            value,
            "",
            &expected,
        );
    }
}

#[test]
fn an_address_of_the_environment_alone_is_judged_too() {
    let s3 = |name, value, expected: &str| {
        assert_told(
            "s3://b",
            "",
            &[(name, value)],
            &format!("{name}: {expected}"),
        );
    };
    s3("AWS_ENDPOINT_URL", "", "empty, not a URL; leave it out");
    s3("AWS_ENDPOINT_URL_S3", "h:1", &format!("\"h:1\" {NO_URL}"));
    s3("AWS_ENDPOINT_URL_STS", "h:1", &format!("\"h:1\" {NO_URL}"));
    s3("AWS_METADATA_ENDPOINT", "h:1", &format!("\"h:1\" {NO_URL}"));
    s3(
        "AWS_ENDPOINT_URL",
        "https://h?a=canary",
        "a query or fragment in the URL; ",
    );
    s3(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://h/canary\n",
        NEWLINE,
    );
    s3(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "canary",
        "not a path; ",
    );
    s3(
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "/a canary",
        "not a path; ",
    );
    let azure = |name, value, expected: &str| {
        let options = "account_name = 'a'";
        assert_told(
            "az://b",
            options,
            &[(name, value)],
            &format!("{name}: {expected}"),
        );
    };
    azure("AZURE_STORAGE_AUTHORITY_HOST", "https://login\n", NEWLINE);
    azure(
        "AZURE_STORAGE_AUTHORITY_HOST",
        "login:443",
        &format!("\"login:443\" {NO_URL}"),
    );
    azure("IDENTITY_ENDPOINT", "h:1", &format!("\"h:1\" {NO_URL}"));
    azure(
        "AZURITE_BLOB_STORAGE_URL",
        "h:1",
        &format!("\"h:1\" {NO_URL}"),
    );
    let host = "GCE_METADATA_HOST: not a host; ";
    assert_told("gs://b", "", &[("GCE_METADATA_HOST", "a canary")], host);
    let bucket = "2: buckets.b.url: no store has a bucket of that name; ";
    assert_told("s3://a%20b/calls", "", &[], bucket);
}

#[test]
fn a_name_that_goes_into_an_address_is_a_name() {
    for value in ["eu central", "eu-central-1 ", "", "eu/canary"] {
        assert_both("s3://b", "region", "AWS_REGION", value, "", NO_NAME);
        assert_told(
            "s3://b",
            "",
            &[("AWS_DEFAULT_REGION", value)],
            "AWS_DEFAULT_REGION: not a name",
        );
        let account = "account_name = 'a', ";
        assert_both(
            "az://b",
            "tenant_id",
            "AZURE_STORAGE_TENANT_ID",
            value,
            account,
            NO_NAME,
        );
        assert_both(
            "az://b",
            "account_name",
            "AZURE_STORAGE_ACCOUNT_NAME",
            value,
            "",
            NO_NAME,
        );
    }
}

#[test]
fn what_may_hold_a_password_is_a_mistake_that_does_not_repeat_it() {
    let account = "account_name = 'a', ";
    for url in [
        "http://u:canary@h:99999",
        "https://u:canary@h",
        "https://canary@h/a b",
        "canary://canary@h",
    ] {
        let s3 = "allow_http = 'true', ";
        let azure = "allow_http = 'true', account_name = 'a', ";
        assert_both("s3://b", "endpoint", "AWS_ENDPOINT_URL", url, s3, USER);
        assert_both(
            "az://b",
            "endpoint",
            "AZURE_STORAGE_ENDPOINT",
            url,
            azure,
            USER,
        );
        assert_both("gs://b", "base_url", "GOOGLE_BASE_URL", url, "", USER);
    }
    let credentials = ("application_credentials", "GOOGLE_APPLICATION_CREDENTIALS");
    assert_both("gs://b", credentials.0, credentials.1, SECRET, "", FILE);
    assert_both(
        "gs://b",
        "service_account",
        "GOOGLE_SERVICE_ACCOUNT",
        SECRET,
        "",
        FILE,
    );
    assert_told(
        "gs://b",
        "",
        &[("SERVICE_ACCOUNT", SECRET)],
        &format!("SERVICE_ACCOUNT: {FILE}"),
    );
    // What the client alone can judge, in its words but for the value.
    let kind = format!("{account}credential_type = '{SECRET}'");
    assert_told(
        "az://b",
        &kind,
        &[],
        "3: buckets.b.options: Generic MicrosoftAzure error: ",
    );
    let flag = format!("unsigned_payload = '{SECRET}'");
    assert_told(
        "s3://b",
        &flag,
        &[],
        "3: buckets.b.options: Generic Config error: ",
    );
    for key in [SECRET, "{\"canary\": 1}", "\"canary\""] {
        let environment = [("GOOGLE_SERVICE_ACCOUNT_KEY", key)];
        assert_told(
            "gs://b",
            "",
            &environment,
            "3: buckets.b.options: Generic GCS error: ",
        );
    }
}

#[test]
fn a_newline_at_the_end_of_any_secret_is_told_and_of_all_at_once() {
    let secret = "canary\n";
    for (url, option, variable, rest) in [
        ("s3://b", "access_key_id", "AWS_ACCESS_KEY_ID", ""),
        ("s3://b", "secret_access_key", "AWS_SECRET_ACCESS_KEY", ""),
        ("s3://b", "session_token", "AWS_SESSION_TOKEN", ""),
        ("s3://b", "role_arn", "AWS_ROLE_ARN", ""),
        (
            "az://b",
            "sas_token",
            "AZURE_STORAGE_SAS_TOKEN",
            "account_name = 'a', ",
        ),
        (
            "az://b",
            "client_secret",
            "AZURE_STORAGE_CLIENT_SECRET",
            "account_name = 'a', ",
        ),
        (
            "az://b",
            "account_key",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "account_name = 'a', ",
        ),
        (
            "az://b",
            "bearer_token",
            "AZURE_STORAGE_TOKEN",
            "account_name = 'a', ",
        ),
        ("gs://b", "bearer_token", "GOOGLE_BEARER_TOKEN", ""),
        (
            "gs://b",
            "application_credentials",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "",
        ),
    ] {
        assert_both(url, option, variable, secret, rest, NEWLINE);
    }
    let header = [("IDENTITY_HEADER", secret)];
    let account = "account_name = 'a'";
    assert_told(
        "az://b",
        account,
        &header,
        &format!("IDENTITY_HEADER: {NEWLINE}"),
    );

    let options = "endpoint = 'h:1', region = 'a b', session_token = \"canary\\n\"";
    let environment = [
        ("AWS_ACCESS_KEY_ID", secret),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    let told = mistakes("s3://b", options, &environment);
    let places: Vec<_> = told
        .iter()
        .map(|text| text.rsplit_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        places,
        [
            "3: buckets.b.options.endpoint",
            "3: buckets.b.options.region: not a name",
            "3: buckets.b.options.session_token",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
        ],
        "{told:#?}"
    );
}
