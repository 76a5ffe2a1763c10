//! What is reported of a wrong configuration: the place, the key, what is wrong and how to mend it.

use std::path::Path;

use super::{
    Config,
    tests::{BUCKETS, Loaded, load, with_buckets},
};

#[track_caller]
fn assert_only(loaded: &Loaded, expected: &str, sample: &str) {
    let report = loaded.report();
    assert_eq!(report.len(), 1, "{sample}: {report:#?}");
    assert!(
        report[0].starts_with(expected),
        "{sample}\n  said: {}\n  not:  {expected}",
        report[0]
    );
    assert!(
        report[0].contains("; "),
        "{} does not say how to mend it",
        report[0]
    );
}

/// Samples, one a line: the file, with ` | ` between its lines, then the line's number and mistake.
#[track_caller]
fn assert_each(samples: &str) {
    for sample in samples
        .lines()
        .map(str::trim)
        .filter(|sample| !sample.is_empty())
    {
        let (text, expected) = sample.split_once(" => ").unwrap();
        let loaded = with_buckets(&text.replace(" | ", "\n"), &[]);
        assert_only(&loaded, &format!("callvault.toml:{expected}"), text);
    }
}

#[test]
fn a_value_of_another_type_is_a_mistake() {
    assert_each(
        r"
        [queue] | prefetch = '32' => 2: queue.prefetch: a whole number is expected, not text
        [queue] | name = 7 => 2: queue.name: text is expected, not a whole number
        [queue] | declare = 'yes' => 2: queue.declare: true or false is expected, not text
        [queue] | prefetch = 1.5 => 2: queue.prefetch: a whole number is expected, not a number with a fraction
        [queue] | routing_keys = 'a' => 2: queue.routing_keys: a list is expected, not text
        [queue] | routing_keys = [ |   'a', |   2, | ] => 4: queue.routing_keys[1]: text is expected
        queue = 1 => 1: queue: a table is expected, not a whole number
        [tenants] => 1: tenants: a list is expected, not a table; write the name in double brackets
        tenants = [1] => 1: tenants[0]: a table is expected, not a whole number
        [fetch] | read_timeout = 1979-05-27 => 2: fetch.read_timeout: a duration is expected, not a date
        [fetch] | max_redirects = 99999999999999999999 => 2: fetch.max_redirects: a whole number is expected, not a number of more than 64 bits
",
    );
}

#[test]
fn an_unknown_key_is_a_mistake_that_names_the_likely_one() {
    assert_each(
        r"
        [queue] | prefech = 3 => 2: queue.prefech: unknown key; did you mean `prefetch`?
        [queue] | colour = 3 => 2: queue.colour: unknown key; remove it; the keys here are:
        [que] | url = 'x' => 1: que: unknown key; did you mean `queue`?
        [attachments.a] | file = 'a' | bucket = 'documents' | waf = {} => 4: attachments.a.waf: unknown key; did you mean `wav`?
        [attachments.a] | file = 'a' | bucket = 'documents' | check = 'wav' | wav = { rates = [1] } => 5: attachments.a.wav.rates: unknown key
",
    );
}

#[test]
fn durations_and_sizes_have_units_and_bounds() {
    assert_each(
        r#"
        [fetch] | read_timeout = '30 parsecs' => 2: fetch.read_timeout: "30 parsecs" is not a duration; write a number with a unit, such as "30s", "5m" or "1h"
        [fetch] | read_timeout = 30 => 2: fetch.read_timeout: 30 has no unit; write a number with a unit
        [fetch] | connect_timeout = '0s' => 2: fetch.connect_timeout: "0s" is no time at all
        [limits] | job_time = '1000years' => 2: limits.job_time: "1000years" is too long
        [limits] | job_time = '30s' => 2: limits.job_time: 30s for a whole event is no longer than fetch.read_timeout, 30s
        [limits] | memory = '12 elephants' => 2: limits.memory: "12 elephants" is not a size
        [limits] | spool = 0 => 2: limits.spool: "0" holds nothing
        [limits] | spool = '99999999999TiB' => 2: limits.spool: "99999999999TiB" is too large
        [limits] | spool_dir = 'nowhere' => 2: limits.spool_dir: there is no directory "nowhere"
"#,
    );
}

#[test]
fn the_queue_is_one_that_the_broker_would_take() {
    assert_each(
        r#"
        [queue] | prefetch = 0 => 2: queue.prefetch: 0 is not between 1 and 65535; write how many events one worker may hold at once, such as 32 (the broker takes 0 as unlimited)
        [queue] | prefetch = 65536 => 2: queue.prefetch: 65536 is not between
        [queue] | name = 'amq.calls' => 2: queue.name: "amq.calls" begins with `amq.`
        [queue] | exchange = '' => 2: queue.exchange: an empty name
        [queue] | routing_keys = [] => 2: queue.routing_keys: without a routing key
        [queue] | retry_delays = ['10s', '0s'] => 2: queue.retry_delays[1]: "0s" is no time at all
        [queue] | retry_delays = ['60s', '1m'] => 2: queue.retry_delays[1]: 1m is in the list already
        [queue] | retry_delays = ['50days'] => 2: queue.retry_delays[0]: "50days" is too long
        [queue] | retry_delays = ['1s 5us'] => 2: queue.retry_delays[0]: finer than a millisecond
        [queue] | url = 'http://h/' => 2: queue.url: neither an amqp:// nor an amqps:// URL
        [queue] | url = 'not a url' => 2: queue.url: not a URL
        [queue] | url = 'amqp:///%2f' => 2: queue.url: no host
        [queue] | url = 'amqp://[::1]:5672/%2f' => 2: queue.url: an IPv6 address
        [queue] | url = 'amqp://h:5672/' => 2: queue.url: a single `/` at the end names the virtual host "", not the default one; end with `/%2f`
        [queue] | url = 'amqp://h/a/b' => 2: queue.url: a virtual host with an unencoded `/`
        [queue] | url = 'amqp://h?heartbeat=0' => 2: queue.url: a heartbeat that is not a number of seconds, or is none at all
        [queue] | url = 'amqp://h?frame_max=x' => 2: queue.url: frame_max is not a number of bytes
        [queue] | url = 'amqp://h?hartbeat=1' => 2: queue.url: an unknown parameter, "hartbeat"; the parameters are heartbeat
        [queue] | url = 'amqp://h?cacertfile=ca.pem' => 2: queue.url: cacertfile without TLS; write amqps:// in front
        [queue] | url = 'amqps://h?cacertfile=nowhere.pem' => 2: queue.url: cacertfile "nowhere.pem" cannot be read
        [queue] | url = 'amqps://h?verify=verify_none' => 2: queue.url: the broker's certificate is always verified
        [queue] | url = 'amqps://h?certfile=/dev/null' => 2: queue.url: certfile without keyfile
        [queue] | url = 'amqps://h?keyfile=/dev/null' => 2: queue.url: keyfile without certfile
        [queue] | url = 'amqps://h?auth_mechanism=anonymous' => 2: queue.url: an auth_mechanism that callvault does not have
"#,
    );
}

#[test]
fn hosts_and_addresses_are_what_they_say() {
    assert_each(
        r#"
        [fetch] | allowed_hosts = ['a', 'a.com:443'] => 2: fetch.allowed_hosts[1]: "a.com:443" is not a host name
        [fetch] | allowed_hosts = ['a.com/b'] => 2: fetch.allowed_hosts[0]: "a.com/b" is not a host name
        [fetch] | allowed_hosts = ['a.*.com'] => 2: fetch.allowed_hosts[0]: "a.*.com" is not a host name
        [fetch] | allowed_hosts = ['https://a.com'] => 2: fetch.allowed_hosts[0]: this value is not a host name
        [fetch] | refusals = 0 => 2: fetch.refusals: 0 is not between 1 and 1000
        [http] | listen = 'localhost:9090' => 2: http.listen: "localhost:9090" is not an address and a port
"#,
    );
}

#[test]
fn a_name_leads_to_a_bucket() {
    assert_each(
        r#"
        [archive] | manifest_bucket = 'docs' => 2: archive.manifest_bucket: there is no bucket "docs"; add `[buckets.docs]` with a url, or name one of: documents, recordings, quarantine
        [attachments.a] | file = 'a' | bucket = 'b' => 3: attachments.a.bucket: there is no bucket "b"
        [buckets.'a b'] | url = 'memory:' => 1: buckets."a b": not a bucket's name
        [buckets.a] => 1: buckets.a.url: missing
        [buckets] | a = 'memory:' => 2: buckets.a: a table is expected, not text
        [buckets.a] | url = 'memory:' | options = { a = [] } => 3: buckets.a.options.a: text is expected, not a list
"#,
    );
}

#[test]
fn a_kind_is_whole_and_can_be_reached() {
    assert_each(
        r#"
        [attachments.a] | bucket = 'documents' => 1: attachments.a.file: missing
        [attachments.a] | file = 'a' => 1: attachments.a.bucket: missing
        [attachments.a] | file = '[a' | bucket = 'documents' => 2: attachments.a.file: "[a" is not a glob
        [attachments.a] | file = 'a/b' | bucket = 'documents' => 2: attachments.a.file: "a/b" can match no file
        [attachments.a] | file = '*' | bucket = 'documents' | [attachments.b] | file = 'b' | bucket = 'documents' => 5: attachments.b.file: never reached, since `a` stands before it
        [attachments.a] | file = 'a' | bucket = 'documents' | check = 'mp3' | schema = 'any.json' => 4: attachments.a.check: there is no check "mp3"
        [attachments.a] | file = 'a' | bucket = 'documents' | schema = 'any.json' => 4: attachments.a.schema: only check = "json" has a schema
        [attachments.a] | file = 'a' | bucket = 'documents' | check = 'json' | wav = {} => 5: attachments.a.wav: only check = "wav" has limits
        [attachments.a] | file = 'a' | bucket = 'documents' | check = 'json' | schema = 'no.json' => 5: attachments.a.schema: cannot read "no.json"
        [attachments.a] | file = 'a' | bucket = 'documents' | check = 'wav' | wav = { channels = [] } => 5: attachments.a.wav.channels: an empty list accepts nothing
        [attachments.a] | file = 'a' | bucket = 'documents' | check = 'wav' | wav = { channels = [0] } => 5: attachments.a.wav.channels[0]: 0 is not between
        [attachments.A] | file = 'a' | bucket = 'documents' => 1: attachments.A: not a kind's name
        [attachments.other] | file = 'a' | bucket = 'documents' => 1: attachments.other: `other` is what no kind matches
"#,
    );
}

#[test]
fn a_tenant_is_one_organization_and_leads_to_buckets() {
    assert_each(
        r#"
        [[tenants]] | organization_id = 'acme' | buckets = { documents = 'recordings' } => 2: tenants[0].organization_id: "acme" is not a UUID
        [[tenants]] | buckets = {} => 1: tenants[0].organization_id: missing
        [[tenants]] | organization_id = 'fb545ce8-68e1-4303-ab23-6ba0149fc4b1' => 1: tenants[0].buckets: missing
        [[tenants]] | organization_id = 'fb545ce8-68e1-4303-ab23-6ba0149fc4b1' | [tenants.buckets] | recordings = 'gone' => 4: tenants[0].buckets.recordings: there is no bucket "gone"
        [[tenants]] | organization_id = 'fb545ce8-68e1-4303-ab23-6ba0149fc4b1' | [tenants.buckets] | gone = 'recordings' => 4: tenants[0].buckets.gone: there is no bucket "gone"
        [[tenants]] | organization_id = 'fb545ce8-68e1-4303-ab23-6ba0149fc4b1' | buckets = {} | [[tenants]] | organization_id = 'FB545CE8-68e1-4303-ab23-6ba0149fc4b1' | buckets = {} => 5: tenants[1].organization_id: fb545ce8-68e1-4303-ab23-6ba0149fc4b1 has a table already
"#,
    );
}

#[test]
fn what_is_not_toml_is_told_without_its_text() {
    assert_each(
        r"
        [queue] | name = calls => 2: not valid TOML: string values must be quoted
        [queue] | name = 'a' | name = 'b' => 3: not valid TOML: duplicate key; set each key once
        [queue] | [queue] => 2: not valid TOML: duplicate key
",
    );
}

#[test]
fn a_bucket_has_a_url_that_leads_to_one_place_and_holds_no_credentials() {
    let accepted = [
        ("s3://acme/calls/2024/", "s3://acme/calls/2024"),
        ("s3://acme", "s3://acme"),
        ("gs://acme/calls", "gs://acme/calls"),
        ("az://acme/calls", "az://acme/calls"),
        ("memory:", "memory:"),
        ("file:///srv/./calls/../archive/", "file:///srv/archive"),
        ("file:/srv/archive", "file:///srv/archive"),
        ("file:/srv/my archive", "file:///srv/my%20archive"),
    ];
    for (url, expected) in accepted {
        let config = load(&format!("{BUCKETS}[buckets.a]\nurl = '{url}'"), &[]).valid();
        assert_eq!(config.buckets.last().unwrap().url, expected, "{url}");
    }
    let refused = [
        (
            "../archive",
            "a URL is expected, not a bare path; write file:FOLDER",
        ),
        ("file:", "no folder"),
        ("file:///", "no folder"),
        ("file:~/archive", "`~` is not the home directory"),
        ("file://archive/documents", "a host in the URL of a folder"),
        ("file:a?b", "a query or fragment"),
        ("memory:a", "memory: has no path"),
        ("s3:acme", "no bucket in the URL; write s3://BUCKET/PREFIX"),
        ("s3:///calls", "no bucket in the URL"),
        ("s3://acme:9000/calls", "a port in the URL"),
        ("s3://acme?region=x", "a query or fragment"),
        ("s3://key:secret@acme/calls", "credentials in the URL"),
        ("s3a://acme", "an unknown scheme; write s3://BUCKET/PREFIX"),
        ("https://s3.example.com/acme", "an endpoint is not a bucket"),
    ];
    for (url, expected) in refused {
        let loaded = load(&format!("[buckets.a]\nurl = '{url}'{BUCKETS}"), &[]);
        assert_only(
            &loaded,
            &format!("callvault.toml:2: buckets.a.url: {expected}"),
            url,
        );
    }
}

#[test]
fn a_bucket_whose_table_is_wrong_still_counts_as_named() {
    let text = "[buckets]\ndocuments = 1\nrecordings = { url = 'ftp://x' }\nquarantine = { uri = 'memory:' }";
    assert_eq!(
        load(text, &[]).report(),
        [
            "callvault.toml:2: buckets.documents: a table is expected, not a whole number; write a TOML table: its [name] with its keys below, or { key = value }",
            "callvault.toml:3: buckets.recordings.url: an unknown scheme; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, file:FOLDER or memory:",
            "callvault.toml:4: buckets.quarantine.url: missing; write one, such as url = \"file:../archive\"",
            "callvault.toml:4: buckets.quarantine.uri: unknown key; did you mean `url`?",
        ]
    );
}

#[test]
fn names_that_no_table_has_are_mistakes_also_where_they_are_defaults() {
    let report = load("", &[]).report();
    assert_eq!(report.len(), 5, "{report:#?}");
    assert_eq!(
        report[0],
        "callvault.toml: archive.manifest_bucket: there is no bucket \"documents\" (the default); add `[buckets.documents]` with a url"
    );
    assert_eq!(
        report[3],
        "callvault.toml: attachments.recording.bucket: there is no bucket \"recordings\"; add `[buckets.recordings]` with a url"
    );
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_of_the_file() {
    let text = "
[queue]
url = 'amqp://host/'
prefetch = 0
retry_dellays = ['10s']
[fetch]
read_timeout = '30 parsecs'
[archive]
quarantine_bucket = 'jail'
[buckets.documents]
url = 'memory:'
[buckets.recordings]
url = 'ftp://x'
[attachments.recording]
file = 'recording.wav'
check = 'mp3'
bucket = 'recordings'
[[tenants]]
organization_id = '1'
buckets = { recordings = 'nowhere' }
[limits]
memory = 'much'
";
    let environment = [
        ("CALLVAULT__HTTP__LISTEN", "9090"),
        ("CALLVAULT__QUEUE__COLOUR", "red"),
    ];
    let report = load(text, &environment).report();
    let places: Vec<&str> = report
        .iter()
        .map(|line| line.split(": ").nth(1).unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "queue.url",
            "queue.prefetch",
            "queue.retry_dellays",
            "fetch.read_timeout",
            "archive.quarantine_bucket",
            "buckets.recordings.url",
            "attachments.recording.check",
            "tenants[0].organization_id",
            "tenants[0].buckets.recordings",
            "limits.memory",
            "http.listen",
            "queue.colour",
        ]
    );
    assert!(
        report[10].starts_with("CALLVAULT__HTTP__LISTEN: http.listen: \"9090\" is not an address")
    );
}

#[test]
fn every_line_that_is_not_toml_is_reported_once() {
    let report = load(
        "[queue]\nname = calls\nprefetch = 3\n[fetch\nallow_http = true\n[http]\nlisten = \n",
        &[],
    )
    .report();
    let places: Vec<&str> = report
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["callvault.toml:2", "callvault.toml:4", "callvault.toml:7"],
        "{report:#?}"
    );
}

#[test]
fn a_file_that_is_not_there_is_one_mistake() {
    let mistakes = Config::load(Path::new("no/such.toml"), [("", ""); 0]).unwrap_err();
    let expected = "no/such.toml: cannot be read: No such file or directory (os error 2); name a readable file";
    assert!(mistakes.to_string().starts_with(expected), "{mistakes}");
}

#[test]
fn a_mistake_of_the_environment_names_the_variable() {
    let samples = [
        (
            "CALLVAULT__FETCH__READ_TIMEOUT",
            "30 parsecs",
            "fetch.read_timeout: \"30 parsecs\" is not a duration",
        ),
        (
            "CALLVAULT__QUEUE__PREFETCH",
            "many",
            "queue.prefetch: \"many\" is not a whole number",
        ),
        (
            "CALLVAULT__QUEUE__PREFETCH",
            "0",
            "queue.prefetch: 0 is not between 1 and 65535",
        ),
        (
            "CALLVAULT__QUEUE__DECLARE",
            "yes",
            "queue.declare: \"yes\" is neither true nor false",
        ),
        (
            "CALLVAULT__QUEUE__ROUTING_KEYS",
            "call.analyzed",
            "queue.routing_keys: not a list",
        ),
        (
            "CALLVAULT__QUEUE__ROUTING_KEYS",
            "['a', 2]",
            "queue.routing_keys[1]: text is expected",
        ),
        (
            "CALLVAULT__QUEUE__PREFECH",
            "1",
            "queue.prefech: unknown key; did you mean `prefetch`?",
        ),
        (
            "CALLVAULT__BUCKTES__A__URL",
            "memory:",
            "bucktes: unknown key; did you mean `buckets`?",
        ),
        ("CALLVAULT__QUEUE", "amqp", "queue: not a table"),
        (
            "CALLVAULT__QUEUE__URL__HOST",
            "a",
            "`url` is text, not a table, so nothing in it can be set",
        ),
        (
            "CALLVAULT__QUEUE____URL",
            "a",
            "a part of the name is empty",
        ),
        ("CALLVAULT__", "a", "a part of the name is empty"),
        (
            "CALLVAULT__ATTACHMENTS__RECORDING__BUCKET",
            "nowhere",
            "attachments.recording.bucket: there is no bucket \"nowhere\"",
        ),
        (
            "CALLVAULT__ATTACHMENTS__VIDEO__FILE",
            "video.mp4",
            "attachments.video.bucket: missing",
        ),
    ];
    for (name, value, expected) in samples {
        let loaded = with_buckets("[queue]\nurl = 'amqp://h'", &[(name, value)]);
        assert_only(&loaded, &format!("{name}: {expected}"), name);
    }
}

#[test]
fn what_may_be_a_secret_is_never_shown() {
    let files = [
        "[queue]\nurl = 'amqp://u:canary@host/'",
        "[queue]\nurl = 'amqp://u:canary@[::1]/%2f'",
        // What ends the authority ends the password: its rest would be taken for something else.
        "[queue]\nurl = 'amqp://u:12?canary=1@host/%2f'",
        "[queue]\nurl = 'amqp://u:12/canary@host/%2f'",
        "[queue]\nurl = 'amqp://u:12#canary@host/%2f'",
        "[queue]\nurl = 'canary'",
        "[queue]\nurl = amqp://u:canary@host/%2f",
        "[queue]\nurl = 'amqp://u:canary",
        "[queue]\nurl = 'a' 'canary'",
        "[queue]\nurl = ['canary']",
        "[queue]\nurk = 'amqp://u:canary@host'",
        "[queue]\nname = 'a'\nname = 'canary'",
        "[fetch]\nread_timeout = 'amqp://u:canary@host'",
        "[buckets.a]\nurl = 's3://u:canary@b'",
        "[buckets.a]\nurl = 'canary'",
        "[buckets.a]\nurl = 'memory:'\noptions = 'canary'",
        "[buckets.a]\nurl = 'memory:'\noptions = { key = ['canary'] }",
        "[buckets.a]\nurl = 'memory:'\noptions = { key = 'canary, }",
        "[buckets.a]\nurl = 'memory:'\noptions = { key = canary }",
        "[buckets.a]\nurl = 'memory:'\noptions = { key = \"\\canary\" }",
    ];
    for text in files {
        let report = with_buckets(text, &[]).report().join("\n");
        assert!(
            !report.is_empty() && !report.contains("canary"),
            "{text}\n{report}"
        );
    }
    let variables = [
        ("CALLVAULT__QUEUE__URL", "canary"),
        ("CALLVAULT__QUEUE", "{ url = canary"),
        ("CALLVAULT__QUEUE__PASSWORD", "canary"),
        ("CALLVAULT__BUCKETS__DOCUMENTS__OPTIONS", "canary"),
        ("CALLVAULT__BUCKETS__DOCUMENTS__SECRET", "canary"),
        ("CALLVAULT__BUCKETS", "{ a = { url = 's3://canary@' } }"),
    ];
    for (name, value) in variables {
        let report = with_buckets("", &[(name, value)]).report().join("\n");
        assert!(
            !report.is_empty() && !report.contains("canary"),
            "{name}\n{report}"
        );
    }
    let loaded = with_buckets(
        "[queue]\nurl = 'amqp://u:canary@h'\n[buckets.a]\nurl = 's3://b'\noptions = { k = 'canary' }",
        &[
            ("CALLVAULT__BUCKETS__A__OPTIONS__SESSION_TOKEN", "canary"),
            (
                "CALLVAULT__BUCKETS__C",
                "{ url = 'az://c', options = { sas_token = 'canary' } }",
            ),
        ],
    );
    let shown = format!("{:?}", loaded.valid());
    assert!(shown.contains("session_token") && shown.contains("sas_token"));
    assert!(!shown.contains("canary"), "{shown}");
}
