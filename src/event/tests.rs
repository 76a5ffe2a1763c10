use super::*;

/// A smallest valid event, with `change` made to it.
fn event(change: impl FnOnce(&mut serde_json::Value)) -> Bytes {
    let mut value = serde_json::json!({
        "event": "call.analyzed",
        "request_id": "r-1",
        "data": {
            "id": "c-1",
            "created_at": "2023-08-24T10:05:18.432652Z",
            "attachments": [{"url": "https://host/a/recording.wav?sig=s3cret"}],
        },
    });
    change(&mut value);
    value.to_string().into()
}

fn parsed(body: &Bytes) -> CallAnalyzed {
    match Event::parse(body) {
        Ok(Event::Analyzed(call)) => *call,
        other => panic!("not a call.analyzed: {other:?}"),
    }
}

#[test]
fn an_event_needs_only_what_is_required() {
    let call = parsed(&event(|_| ()));
    assert_eq!(
        (call.call_id.as_str(), call.request_id.as_str()),
        ("c-1", "r-1")
    );
    assert_eq!(call.attachments.len(), 1);
    assert_eq!(call.attachments[0].organization_id, None);
}

#[test]
fn any_other_event_is_named_whatever_else_it_holds() {
    let body = Bytes::from_static(br#"{"event":"call.started","data":7}"#);
    assert!(matches!(Event::parse(&body), Ok(Event::Other(name)) if name == "call.started"));
}

#[test]
fn without_a_request_id_the_bodys_hash_stands_in() {
    let body = event(|e| {
        e.as_object_mut().unwrap().remove("request_id");
    });
    assert_eq!(
        parsed(&body).request_id.as_str(),
        Sha256::of(&body).to_string()
    );
    let body = event(|e| e["request_id"] = serde_json::Value::Null);
    assert_eq!(
        parsed(&body).request_id.as_str(),
        Sha256::of(&body).to_string()
    );
}

#[test]
fn optional_fields_of_any_type_are_kept_as_written() {
    let body = Bytes::from_static(
        br#"{"event":"call.analyzed","new":[1],"data":{"id":"c","created_at":"2023-08-24T10:05:18+02:00",
            "user_id":12345678901234567890123, "from":{"x":1.10}, "attachments":[{"url":"https://h/f","agent_id":7,"content_type":[]}]}}"#,
    );
    let call = parsed(&body);
    let kept = serde_json::to_string(&call.call).unwrap();
    assert!(
        kept.contains(r#""user_id":12345678901234567890123"#),
        "{kept}"
    );
    assert!(kept.contains(r#""from":{"x":1.10}"#), "{kept}");
    assert!(kept.contains(r#""to":null"#), "{kept}");
    assert_eq!(call.attachments[0].agent_id.as_ref().unwrap().get(), "7");
    assert_eq!(call.created_at.to_rfc3339(), "2023-08-24T08:05:18+00:00");
    assert_eq!(call.body.get().as_bytes(), &body[..]);
}

#[test]
fn an_organization_is_read_from_the_urls_path() {
    let uuid = "fb545ce8-68e1-4303-ab23-6ba0149fc4b1";
    let body = event(|e| {
        e["data"]["attachments"] = serde_json::json!([
            {"url": format!("https://h/organization_{uuid}/calls/x/recording.wav")},
            {"url": format!("https://h/organization_nope/organization_{uuid}/f")},
            {"url": format!("https://h/f?organization_{uuid}")},
        ]);
    });
    let found: Vec<_> = parsed(&body)
        .attachments
        .iter()
        .map(|a| a.organization_id)
        .collect();
    let uuid = uuid.parse().ok();
    assert_eq!(found, [uuid, uuid, None]);
}

#[test]
fn what_is_missing_or_wrong_is_named_without_quoting_the_body() {
    use serde_json::json;
    let cases: [(&str, Bytes); 17] = [
        ("event is missing", event(|e| e["event"] = json!(null))),
        ("event is not a string", event(|e| e["event"] = json!(1))),
        ("data is missing", event(|e| e["data"] = json!(null))),
        (
            "data is not an object",
            event(|e| e["data"] = json!(["+14244023931"])),
        ),
        (
            "data.id is missing",
            event(|e| e["data"]["id"] = json!(null)),
        ),
        (
            "data.id is not an identifier",
            event(|e| e["data"]["id"] = json!("../x")),
        ),
        (
            "data.id is not an identifier",
            event(|e| e["data"]["id"] = json!("a..b")),
        ),
        (
            "request_id is not an identifier",
            event(|e| e["request_id"] = json!("")),
        ),
        (
            "request_id is not a string",
            event(|e| e["request_id"] = json!(5)),
        ),
        (
            "data.created_at is missing",
            event(|e| e["data"]["created_at"] = json!(null)),
        ),
        (
            "data.created_at is not an RFC 3339",
            event(|e| e["data"]["created_at"] = json!("yesterday")),
        ),
        (
            "data.attachments is missing",
            event(|e| e["data"]["attachments"] = json!(null)),
        ),
        (
            "data.attachments is not an array",
            event(|e| e["data"]["attachments"] = json!({})),
        ),
        (
            "data.attachments[0].url is missing",
            event(|e| e["data"]["attachments"] = json!([{}])),
        ),
        (
            "data.attachments[0].url is not a URL",
            event(|e| e["data"]["attachments"][0]["url"] = json!("+14244023931")),
        ),
        ("the body is not an object", Bytes::from_static(b"[1]")),
        (
            "the body is not JSON",
            Bytes::from_static(b"{\"from\": +14244023931}"),
        ),
    ];
    for (expected, body) in cases {
        let message = Event::parse(&body).unwrap_err().to_string();
        assert!(
            message.starts_with(expected),
            "{message:?} is not {expected:?}"
        );
        assert!(!message.contains("4244023931"), "{message}");
    }
}

#[test]
fn a_field_that_stands_there_twice_is_refused() {
    let body = Bytes::from_static(br#"{"event":"call.analyzed","event":"call.started"}"#);
    assert!(Event::parse(&body).is_err());
}

#[test]
fn years_that_no_key_can_hold_are_refused() {
    for date in [
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ] {
        let body = event(|e| e["data"]["created_at"] = serde_json::json!(date));
        assert!(Event::parse(&body).is_err(), "{date}");
    }
}

#[test]
fn nesting_is_bounded_however_long_the_body() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        Bytes::from(format!(
            r#"{{"event":"x","deep":{open}{close},"text":"[[\"[["}}"#
        ))
    };
    assert!(Event::parse(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(
        Event::parse(&nested(MAX_DEPTH)).unwrap_err(),
        EventError::TooDeep
    );
    assert_eq!(
        Event::parse(&nested(200_000)).unwrap_err(),
        EventError::TooDeep
    );
}

#[test]
fn a_url_has_at_most_16_kib_also_once_it_is_encoded() {
    for (path, fits) in [
        ("x".repeat(16_000), true),
        ("x".repeat(17_000), false),
        // Six bytes for each two.
        ("é".repeat(2_500), true),
        ("é".repeat(3_000), false),
    ] {
        let body = format!(
            r#"{{"event": "call.analyzed", "data": {{"id": "c", "created_at": "2026-01-01T00:00:00Z",
                "attachments": [{{"url": "https://h/{path}"}}]}}}}"#
        );
        let parsed = Event::parse(&body.into());
        match parsed {
            Ok(_) => assert!(fits, "{}", path.len()),
            Err(error) => {
                assert!(!fits, "{error}");
                let words = "data.attachments[0].url is not a URL of at most 16 KiB";
                assert_eq!(error.to_string(), words);
            }
        }
    }
}

#[test]
fn a_host_longer_than_any_is_refused_before_its_name_is_looked_into() {
    let of = |url: &str| {
        let body = event(|e| e["data"]["attachments"][0]["url"] = url.into());
        Event::parse(&body).err().map(|error| error.to_string())
    };
    // International labels as long as the parser takes them: each costs a million steps.
    let label: String = ('\u{4e00}'..).take(1000).collect();
    let refused = "data.attachments[0].url is not a URL with a host of at most 1 KiB";
    for before in [
        "https://",
        "HTTP:",
        " ht\ntps:\\\\/\t/",
        "file://",
        "https://u:p@x@",
        "wss://",
    ] {
        assert_eq!(
            of(&format!("{before}{label}")).as_deref(),
            Some(refused),
            "{before}"
        );
    }
    // Elsewhere they cost nothing.
    for url in [
        format!("https://h/{label}"),
        format!("https://h?{label}"),
        format!("https:\\\\h\\{label}"),
        format!("https://{label}@h/"),
        format!("data:,{label}"),
        format!("https://h/a:{label}"),
        format!("https://{}/", "a".repeat(1 << 10)),
    ] {
        assert_eq!(of(&url), None, "{url}");
    }
}
