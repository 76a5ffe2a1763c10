//! Reading what was archived, by plain HTTP: a client that shares no code with the worker's.

use bytes::Bytes;
use reqwest::{Client, Method, Response, StatusCode, header::HeaderMap};

/// An S3 server that asks for no credentials.
pub(crate) struct S3 {
    endpoint: String,
    client: Client,
}

impl S3 {
    /// Is there from the start, and enough for tests that keep to a prefix of their own. A bucket's
    /// first object costs 0.2 s.
    pub(crate) const BUCKET: &str = "callvault-it";

    pub(crate) fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            client: super::http_client(),
        }
    }

    /// For the configuration: `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn create_bucket(&self, bucket: &str) {
        let response = self.send(Method::PUT, bucket, &[], Bytes::new()).await;
        assert!(
            response.status().is_success(),
            "PUT {bucket}: {}",
            response.status()
        );
    }

    /// Writes an object; `headers` may make it conditional (`if-none-match: *`).
    pub(crate) async fn put(
        &self,
        bucket: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> StatusCode {
        self.send(
            Method::PUT,
            &format!("{bucket}/{key}"),
            headers,
            body.into(),
        )
        .await
        .status()
    }

    /// Removes an object.
    pub(crate) async fn delete(&self, bucket: &str, key: &str) {
        let path = format!("{bucket}/{key}");
        let response = self.send(Method::DELETE, &path, &[], Bytes::new()).await;
        assert!(response.status().is_success(), "{}", response.status());
    }

    /// An object's headers (`content-type`, `x-amz-meta-…`) and bytes, if it is there.
    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Option<(HeaderMap, Bytes)> {
        let response = found(
            self.send(Method::GET, &format!("{bucket}/{key}"), &[], Bytes::new())
                .await,
        )?;
        Some((response.headers().clone(), response.bytes().await.unwrap()))
    }

    /// An object's headers, if it is there.
    pub(crate) async fn head(&self, bucket: &str, key: &str) -> Option<HeaderMap> {
        let response = found(
            self.send(Method::HEAD, &format!("{bucket}/{key}"), &[], Bytes::new())
                .await,
        )?;
        Some(response.headers().clone())
    }

    /// The keys that begin with `prefix`, in order; at most 1000.
    pub(crate) async fn list(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.keys(&format!("{bucket}?list-type=2&prefix={prefix}"))
            .await
    }

    /// The keys under `prefix` of multipart uploads that were neither completed nor aborted.
    pub(crate) async fn list_uploads(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.keys(&format!("{bucket}?uploads&prefix={prefix}"))
            .await
    }

    /// Begins a multipart upload, and says its identifier.
    pub(crate) async fn begin_upload(&self, bucket: &str, key: &str) -> String {
        let path = format!("{bucket}/{key}?uploads");
        let response = self.send(Method::POST, &path, &[], Bytes::new()).await;
        let xml = response.text().await.unwrap();
        let id = xml.split("<UploadId>").nth(1).unwrap();
        id.split('<').next().unwrap().to_owned()
    }

    /// Sends one part of a multipart upload.
    pub(crate) async fn put_part(&self, bucket: &str, key: &str, upload: &str, number: u32) {
        let path = format!("{bucket}/{key}?partNumber={number}&uploadId={upload}");
        let response = self.send(Method::PUT, &path, &[], "a part".into()).await;
        assert!(response.status().is_success(), "{}", response.status());
    }

    async fn keys(&self, path: &str) -> Vec<String> {
        let response = self.send(Method::GET, path, &[], Bytes::new()).await;
        assert!(
            response.status().is_success(),
            "GET {path}: {}",
            response.status()
        );
        let xml = response.text().await.unwrap();
        assert!(
            !xml.contains("<IsTruncated>true"),
            "more keys than one answer holds: {path}"
        );
        // Keys that callvault makes hold nothing that XML escapes.
        xml.split("<Key>")
            .skip(1)
            .map(|rest| rest.split("</Key>").next().unwrap().to_owned())
            .collect()
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response {
        let mut request = self
            .client
            .request(method, format!("{}/{path}", self.endpoint))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

fn found(response: Response) -> Option<Response> {
    match response.status() {
        StatusCode::NOT_FOUND => None,
        status => {
            assert!(status.is_success(), "{}: {status}", response.url());
            Some(response)
        }
    }
}
