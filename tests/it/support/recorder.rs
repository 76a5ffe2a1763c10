//! A server of the tests' own that speaks as much of S3 as an upload takes, keeps nothing but what it saw of each request,
//! and fails as told. It holds bodies against the digests that they were signed with, as S3 does.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use callvault::digest::Hasher;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How a request that writes is answered.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// With a status, once the whole request was read.
    Status(u16),
    /// With a reset, after so many bytes of the body.
    ResetAt(usize),
    /// With a status and a `Location`.
    Redirect(u16, String),
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    /// How much of the body came.
    pub(crate) length: usize,
    /// Of what came of the body.
    pub(crate) sha256: String,
}

/// A running server; it ends with its value.
pub(crate) struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    faults: Mutex<VecDeque<Fault>>,
    /// Length and SHA-256 metadata of each object, by path.
    objects: Mutex<HashMap<String, (usize, String)>>,
    connections: Mutex<usize>,
}

impl Recorder {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let sharing = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                *sharing.connections.lock().unwrap() += 1;
                let shared = Arc::clone(&sharing);
                // A client may go away at any time.
                tokio::spawn(async move { serve(client, &shared).await });
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of the next requests that write, one each.
    pub(crate) fn next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// All requests so far of a method.
    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        let seen = self.shared.seen.lock().unwrap();
        let of = seen.iter().filter(|request| request.method == method);
        of.cloned().collect()
    }

    /// How many requests there were, of whatever kind.
    pub(crate) fn requests(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How many objects there are.
    pub(crate) fn objects(&self) -> usize {
        self.shared.objects.lock().unwrap().len()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut read = Vec::new();
    while let Some(mut seen) = head(&mut client, &mut read).await? {
        let writes = ["PUT", "POST"].contains(&seen.method.as_str());
        let fault = writes.then(|| shared.faults.lock().unwrap().pop_front());
        let fault = fault.flatten();
        let length = seen.headers.get("content-length");
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        let most = match fault {
            Some(Fault::ResetAt(at)) => at.min(length),
            _ => length,
        };
        let mut hasher = Hasher::default();
        while seen.length < most {
            if read.is_empty() {
                read.resize(256 << 10, 0);
                let more = client.read(&mut read).await?;
                read.truncate(more);
                if more == 0 {
                    break;
                }
            }
            let now = read.len().min(most - seen.length);
            hasher.update(&read[..now]);
            seen.length += now;
            read.drain(..now);
        }
        seen.sha256 = hasher.finish().to_string();
        shared.seen.lock().unwrap().push(seen.clone());
        let answer = match fault {
            Some(Fault::ResetAt(_)) => {
                // What was not read makes it a reset.
                return Ok(());
            }
            Some(Fault::Status(status)) => answer(status, &[], ""),
            Some(Fault::Redirect(status, to)) => answer(status, &[("location", &to)], ""),
            None => shared.answer(&seen),
        };
        client.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

impl Shared {
    fn answer(&self, seen: &Seen) -> String {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let header = |name: &str| seen.headers.get(name).map_or("", String::as_str);
        let signed = header("x-amz-content-sha256");
        if seen.length > 0 && signed.len() == 64 && signed != seen.sha256 {
            return answer(
                400,
                &[],
                "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>",
            );
        }
        let mut objects = self.objects.lock().unwrap();
        let there = objects.get(path).cloned();
        match (seen.method.as_str(), there) {
            ("POST", _) if query == "uploads=" => {
                let id = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
                answer(200, &[], id)
            }
            ("POST", _) => {
                objects.insert(path.into(), (0, String::new()));
                let done = "<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>";
                answer(200, &[], done)
            }
            ("PUT", _) if query.contains("partNumber") => answer(200, &[("etag", "\"1\"")], ""),
            ("PUT", Some(_)) if header("if-none-match") == "*" => answer(412, &[], ""),
            ("PUT", _) => {
                let sha256 = header("x-amz-meta-sha256").to_owned();
                objects.insert(path.into(), (seen.length, sha256));
                answer(200, &[("etag", "\"1\"")], "")
            }
            ("HEAD", Some((length, sha256))) => format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\netag: \"1\"\r\nx-amz-meta-sha256: {sha256}\r\n\
                 last-modified: Thu, 24 Aug 2023 10:05:18 GMT\r\n\r\n"
            ),
            ("DELETE", _) => answer(204, &[], ""),
            _ => answer(404, &[], ""),
        }
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let mut head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    format!("{head}\r\n{body}")
}

/// A request's head; what came of its body stays in `read`. None at the end of the connection.
async fn head(client: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<Option<Seen>> {
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(read).await? == 0 {
            return Ok(None);
        }
    };
    let rest = read.split_off(end + 4);
    let text = String::from_utf8(std::mem::replace(read, rest)).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let mut request = lines.next().unwrap().split(' ').map(str::to_owned);
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Ok(Some(Seen {
        method: request.next().unwrap(),
        target: request.next().unwrap(),
        headers: headers.collect(),
        length: 0,
        sha256: String::new(),
    }))
}
