//! Google's XML interface before fake-gcs-server, which has the JSON one alone: it knows no `PUT` of an
//! object, and no upload in parts. What is stored, under which conditions, and what is told of it, is the
//! server's; here requests are only put into its language. Parts are objects of their own until the server
//! composes them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, Response, StatusCode},
    routing::any,
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use uuid::Uuid;

const META: &str = "x-goog-meta-";

/// The running interface; it ends with its value.
pub(crate) struct Xml {
    url: String,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Server {
    json: String,
    client: reqwest::Client,
    uploads: Arc<Mutex<BTreeMap<String, Upload>>>,
}

struct Upload {
    key: String,
    about: Value,
    begun: String,
    parts: BTreeMap<u32, String>,
}

type Answer = Response<Body>;

impl Xml {
    /// Before a fake-gcs-server, `http://HOST:PORT`.
    pub(crate) async fn before(json: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Server {
            json: json.to_owned(),
            client: super::http_client(),
            uploads: Arc::default(),
        };
        let router = Router::new()
            .route("/{bucket}", any(bucket))
            .route("/{bucket}/{*key}", any(object))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(server);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Xml {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bucket(
    State(server): State<Server>,
    Path(bucket): Path<String>,
    request: Request,
) -> Answer {
    let query = query(&request);
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    if query.contains_key("uploads") {
        let uploads = server.uploads.lock().unwrap();
        let listed = uploads
            .iter()
            .filter(|(_, upload)| upload.key.starts_with(&prefix));
        let listed = listed
            .map(|(id, Upload { key, begun, .. })| {
                format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>")
            })
            .collect::<Vec<_>>()
            .concat();
        return xml(&format!(
            "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{listed}</ListMultipartUploadsResult>"
        ));
    }
    let url = format!(
        "{}/{bucket}?list-type=2&prefix={}&delimiter={}",
        server.json,
        encoded(&prefix),
        encoded(query.get("delimiter").map_or("", String::as_str)),
    );
    let answer = server.client.get(url).send().await.unwrap();
    xml(&answer.text().await.unwrap())
}

async fn object(
    State(server): State<Server>,
    Path((bucket, key)): Path<(String, String)>,
    request: Request,
) -> Answer {
    let query = query(&request);
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let body = axum::body::to_bytes(request.into_body(), usize::MAX)
        .await
        .unwrap();
    let upload = query.get("uploadId");
    match (method, upload) {
        (Method::PUT, None) => {
            let matched = headers.get("x-goog-if-generation-match");
            let matched = matched.map(|value| value.to_str().unwrap());
            server
                .put(&bucket, &key, &about(&headers), matched, &body)
                .await
        }
        (Method::PUT, Some(id)) => {
            let number: u32 = query["partNumber"].parse().unwrap();
            server.put_part(&bucket, id, number, &body).await
        }
        (Method::POST, None) => server.begin(&key, &headers),
        (Method::POST, Some(id)) => server.complete(&bucket, id).await,
        (Method::DELETE, Some(id)) => match server.forget(&bucket, id).await {
            Some(()) => status(StatusCode::NO_CONTENT),
            None => status(StatusCode::NOT_FOUND),
        },
        (Method::DELETE, None) => {
            let answer = server.client.delete(server.object(&bucket, &key)).send();
            status(answer.await.unwrap().status())
        }
        (Method::GET, Some(id)) => server.list_parts(id),
        (method, None) => server.get(method, &bucket, &key, &headers).await,
        other => panic!("{other:?}"),
    }
}

impl Server {
    fn object(&self, bucket: &str, key: &str) -> String {
        format!("{}/storage/v1/b/{bucket}/o/{}", self.json, encoded(key))
    }

    async fn put(
        &self,
        bucket: &str,
        key: &str,
        about: &Value,
        generation: Option<&str>,
        body: &Bytes,
    ) -> Answer {
        let mut url = format!(
            "{}/upload/storage/v1/b/{bucket}/o?uploadType=multipart&name={}",
            self.json,
            encoded(key)
        );
        if let Some(generation) = generation {
            url = format!("{url}&ifGenerationMatch={generation}");
        }
        let kind = about["contentType"]
            .as_str()
            .unwrap_or("application/octet-stream");
        let head = format!(
            "--part\r\ncontent-type: application/json\r\n\r\n{about}\r\n--part\r\ncontent-type: {kind}\r\n\r\n"
        );
        let body = [head.as_bytes(), body, b"\r\n--part--\r\n"].concat();
        let request = self.client.post(url).body(body);
        let request = request.header("content-type", "multipart/related; boundary=part");
        written(request.send().await.unwrap()).await
    }

    fn begin(&self, key: &str, headers: &HeaderMap) -> Answer {
        let id = Uuid::new_v4().simple().to_string();
        let upload = Upload {
            key: key.to_owned(),
            about: about(headers),
            begun: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            parts: BTreeMap::new(),
        };
        self.uploads.lock().unwrap().insert(id.clone(), upload);
        xml(&format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ))
    }

    async fn put_part(&self, bucket: &str, id: &str, number: u32, body: &Bytes) -> Answer {
        if !self.uploads.lock().unwrap().contains_key(id) {
            return status(StatusCode::NOT_FOUND);
        }
        let answer = self
            .put(bucket, &part(id, number), &json!({}), None, body)
            .await;
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        if let Some(upload) = self.uploads.lock().unwrap().get_mut(id) {
            upload.parts.insert(number, now);
        }
        answer
    }

    async fn complete(&self, bucket: &str, id: &str) -> Answer {
        let Some(upload) = self.uploads.lock().unwrap().remove(id) else {
            return status(StatusCode::NOT_FOUND);
        };
        let parts = upload
            .parts
            .keys()
            .map(|number| json!({"name": part(id, *number)}));
        let compose = json!({
            "sourceObjects": parts.collect::<Vec<_>>(),
            "destination": upload.about,
        });
        let url = format!("{}/compose", self.object(bucket, &upload.key));
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json");
        let answer = request.body(compose.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "compose: {}", answer.status());
        self.delete_parts(bucket, id, &upload).await;
        xml(
            "<CompleteMultipartUploadResult><ETag>\"composed\"</ETag></CompleteMultipartUploadResult>",
        )
    }

    async fn forget(&self, bucket: &str, id: &str) -> Option<()> {
        let upload = self.uploads.lock().unwrap().remove(id)?;
        self.delete_parts(bucket, id, &upload).await;
        Some(())
    }

    async fn delete_parts(&self, bucket: &str, id: &str, upload: &Upload) {
        for number in upload.parts.keys() {
            let url = self.object(bucket, &part(id, *number));
            self.client.delete(url).send().await.unwrap();
        }
    }

    fn list_parts(&self, id: &str) -> Answer {
        let uploads = self.uploads.lock().unwrap();
        let Some(upload) = uploads.get(id) else {
            return status(StatusCode::NOT_FOUND);
        };
        let parts = upload
            .parts
            .values()
            .map(|at| format!("<Part><LastModified>{at}</LastModified></Part>"))
            .collect::<Vec<_>>()
            .concat();
        xml(&format!(
            "<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>"
        ))
    }

    async fn get(&self, method: Method, bucket: &str, key: &str, headers: &HeaderMap) -> Answer {
        let url = self.object(bucket, key);
        let told = self.client.get(&url).send().await.unwrap();
        if told.status() != StatusCode::OK {
            return status(told.status());
        }
        let told: Value = serde_json::from_str(&told.text().await.unwrap()).unwrap();
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        let updated = chrono::DateTime::parse_from_rfc3339(&text("updated"))
            .unwrap()
            .to_utc();
        let mut answer = Response::builder()
            .header("etag", format!("\"{}\"", text("md5Hash")))
            .header("x-goog-generation", text("generation"))
            .header("content-type", text("contentType"))
            .header(
                "last-modified",
                updated.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            );
        for (name, value) in told["metadata"].as_object().into_iter().flatten() {
            answer = answer.header(format!("{META}{name}"), value.as_str().unwrap());
        }
        if method == Method::HEAD {
            return answer
                .header("content-length", text("size"))
                .body(Body::empty())
                .unwrap();
        }
        let mut request = self.client.get(format!("{url}?alt=media"));
        if let Some(range) = headers.get("range") {
            request = request.header("range", range);
        }
        let media = request.send().await.unwrap();
        answer = answer.status(media.status());
        if let Some(range) = media.headers().get("content-range") {
            answer = answer.header("content-range", range);
        }
        answer.body(media.bytes().await.unwrap().into()).unwrap()
    }
}

fn query(request: &Request) -> BTreeMap<String, String> {
    let query = request.uri().query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.into_owned().collect()
}

/// An object's content type and metadata, as the JSON interface takes them.
fn about(headers: &HeaderMap) -> Value {
    let mut metadata = serde_json::Map::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(META) {
            metadata.insert(name.into(), value.to_str().unwrap().into());
        }
    }
    let kind = headers
        .get("content-type")
        .map(|value| value.to_str().unwrap());
    json!({"contentType": kind, "metadata": metadata})
}

/// The answer to a write.
async fn written(answer: reqwest::Response) -> Answer {
    let code = answer.status();
    if !code.is_success() {
        return status(code);
    }
    let told: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    Response::builder()
        .header("etag", format!("\"{}\"", told["md5Hash"].as_str().unwrap()))
        .header("x-goog-generation", told["generation"].as_str().unwrap())
        .body(Body::empty())
        .unwrap()
}

fn part(id: &str, number: u32) -> String {
    format!("parts-of-uploads/{id}/{number}")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn xml(text: &str) -> Answer {
    let answer = Response::builder().header("content-type", "application/xml");
    answer.body(Body::from(text.to_owned())).unwrap()
}

fn status(code: StatusCode) -> Answer {
    Response::builder()
        .status(code)
        .body(Body::empty())
        .unwrap()
}
