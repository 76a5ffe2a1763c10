//! What a server says of its file, as it comes to stand in a manifest and on an object.

use serde_json::{Value, json};

use super::{archive, clean, event, folder, row::answer};
use crate::support::{config::Setup, s3::S3, script::Server, servers};

/// Header lines, and what is kept of them: type, tag and date.
fn rows() -> Vec<(Vec<u8>, [Value; 3])> {
    let lines = |lines: &str| lines.as_bytes().to_vec();
    let long = "x".repeat(100_000);
    vec![
        (
            lines(
                "Content-Type: audio/x-wav\r\nETag: \"1\"\r\nLast-Modified: Thu, 24 Aug 2023 10:05:18 GMT\r\n",
            ),
            [
                json!("audio/x-wav"),
                json!("\"1\""),
                json!("Thu, 24 Aug 2023 10:05:18 GMT"),
            ],
        ),
        (
            lines(&format!(
                "Content-Type: audio/{long}\r\nETag: \"{long}\"\r\nLast-Modified: {long}\r\n"
            )),
            [json!(null), json!(null), json!(null)],
        ),
        (
            b"Content-Type: audio/\xff\xfe\r\nETag: \"\xc3\xbc\"\r\nLast-Modified: \x80\r\n"
                .to_vec(),
            [json!(null), json!(null), json!(null)],
        ),
        (
            lines(
                "Content-Type: audio/x-wav%0d%0aX-Evil: 1\r\nETag: \\r\\nX-Evil: 1\r\nLast-Modified: %00\r\n",
            ),
            [
                json!("audio/x-wav%0d%0aX-Evil: 1"),
                json!("\\r\\nX-Evil: 1"),
                json!("%00"),
            ],
        ),
        (
            lines(
                "Content-Type: \"}],\"status\":\"complete\r\nETag: </Key>\r\nLast-Modified: ${jndi:ldap://x}\r\n",
            ),
            [
                json!("\"}],\"status\":\"complete"),
                json!("</Key>"),
                json!("${jndi:ldap://x}"),
            ],
        ),
        (
            lines(
                "Content-Type: audio/x-wav\r\nContent-Type: text/html\r\nETag:\r\nLast-Modified: a\tb\r\n",
            ),
            [json!("audio/x-wav"), json!(""), json!("a b")],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_its_file_stays_short_printable_and_in_its_place() {
    let mut setup = Setup::s3().await;
    setup.append("[attachments.file]\nfile = \"*\"\ncheck = \"none\"\nbucket = \"recordings\"\nmax_size = \"1MiB\"");
    let (mut servers, mut events) = (Vec::new(), Vec::new());
    for (n, (lines, _)) in rows().iter().enumerate() {
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        head.extend(lines);
        head.extend(b"Content-Length: 9\r\n\r\nall of it");
        let server = Server::start(vec![answer(head)]).await;
        events.push(event(&format!("row-{n}"), &[server.url(None, "/file.bin")]));
        servers.push(server);
    }
    let output = archive(&setup, &events).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    clean(&output, events.len());
    let s3 = servers::s3().await;
    for (n, (_, expected)) in rows().into_iter().enumerate() {
        let folder = folder(&format!("row-{n}"));
        let manifest = format!("{}/{folder}/manifest.json", setup.prefix("documents"));
        let (_, manifest) = s3.get(S3::BUCKET, &manifest).await.unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let source = &manifest["attachments"][0]["source"];
        let kept = ["content_type", "etag", "last_modified"].map(|name| source[name].clone());
        assert_eq!(kept, expected, "row {n}: {manifest:#}");

        let object = format!("{}/{folder}/file.bin", setup.prefix("recordings"));
        let (headers, bytes) = s3.get(S3::BUCKET, &object).await.unwrap();
        assert_eq!(bytes, "all of it");
        let kind = headers
            .get("content-type")
            .map(|kind| kind.to_str().unwrap());
        if let Some(expected) = expected[0].as_str() {
            assert_eq!(kind, Some(expected), "row {n}");
        }
        assert!(!headers.contains_key("x-evil"), "row {n}: {headers:?}");
        let metadata: Vec<_> = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-amz-meta-"))
            .collect();
        assert!(metadata.len() >= 5, "row {n}: {headers:?}");
        for (name, value) in metadata {
            let printable = value
                .as_bytes()
                .iter()
                .all(|byte| (0x20..0x7f).contains(byte));
            assert!(printable && value.len() < 200, "row {n}: {name}: {value:?}");
        }
    }
}
