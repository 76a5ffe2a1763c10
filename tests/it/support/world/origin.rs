//! Every server of a world: HTTP and HTTPS on each of [`PORTS`], whatever the address.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::Acceptor,
};

/// Where somebody listens: what a hostile URL may be after, and the usual ones.
pub(crate) const PORTS: [u16; 10] = [22, 25, 80, 443, 2375, 3128, 5672, 6379, 8080, 8443];

/// A connection, by the address that the client really connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection {
    pub(crate) to: SocketAddr,
    /// Of the client's end, which no other connection has.
    pub(crate) from: SocketAddr,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// Whether over TLS.
    pub(crate) tls: bool,
    /// Request line and headers, each character of them.
    pub(crate) head: String,
}

impl Request {
    /// What is asked for: the path with its query.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The `Host` header.
    pub(crate) fn host(&self) -> &str {
        let mut lines = self.head.lines();
        let host = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        });
        host.unwrap_or_default()
    }
}

/// An answer, without its `Content-Length`.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

impl Reply {
    /// 200 with the address that the request came to: what is archived says where from.
    pub(crate) fn whence(request: &Request) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: request.to.ip().to_string(),
        }
    }

    /// A redirect.
    pub(crate) fn to(status: u16, location: &str) -> Self {
        Self {
            status,
            headers: vec![format!("Location: {location}")],
            body: String::new(),
        }
    }
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send>;

/// The servers. They end with the process, which is the test's own.
pub(crate) struct Origin(Arc<Shared>);

struct Shared {
    authority: Issuer<'static, KeyPair>,
    key: KeyPair,
    /// By the names that each is for.
    certificates: Mutex<HashMap<Vec<String>, Arc<ServerConfig>>>,
    answer: Mutex<Answer>,
    connections: Mutex<Vec<Connection>>,
    requests: Mutex<Vec<Request>>,
}

impl Origin {
    pub(super) fn start(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority over all the world");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        fs::write(dir.join("authority.pem"), pem).unwrap();
        let shared = Arc::new(Shared {
            authority: Issuer::new(params, key),
            key: KeyPair::generate().unwrap(),
            certificates: Mutex::default(),
            answer: Mutex::new(Box::new(Reply::whence)),
            connections: Mutex::default(),
            requests: Mutex::default(),
        });
        for port in PORTS {
            // IPv4 comes here too.
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            serve(listener, &shared);
        }
        Self(shared)
    }

    /// Listens at one address alone, and a port that is not of [`PORTS`].
    pub(crate) fn listen(&self, address: SocketAddr) {
        serve(TcpListener::bind(address).unwrap(), &self.0);
    }

    /// From now on requests are answered like this.
    pub(crate) fn answer(&self, answer: impl Fn(&Request) -> Reply + Send + 'static) {
        *self.0.answer.lock().unwrap() = Box::new(answer);
    }

    /// The connections since the last call, in order.
    pub(crate) fn connections(&self) -> Vec<Connection> {
        std::mem::take(&mut self.0.connections.lock().unwrap())
    }

    /// The requests since the last call, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.0.requests.lock().unwrap())
    }
}

fn serve(listener: TcpListener, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port()).into();
            let (Ok(to), Ok(from)) = (stream.local_addr(), stream.peer_addr()) else {
                panic!("a connection without an end");
            };
            let (to, from) = (plain(to), plain(from));
            let mut connections = shared.connections.lock().unwrap();
            connections.push(Connection { to, from });
            drop(connections);
            let shared = Arc::clone(&shared);
            // A client that hangs up, or wants no such certificate, is none of this end's affairs.
            thread::spawn(move || shared.converse(stream, to));
        }
    });
}

impl Shared {
    /// One request, and its answer, by TLS where the client begins with it.
    fn converse(&self, mut stream: TcpStream, to: SocketAddr) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut first = [0];
        if stream.peek(&mut first)? == 0 {
            return Ok(());
        }
        // The type of a TLS record that holds a handshake.
        if first != [0x16] {
            return self.reply(&mut stream, to, false);
        }
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            acceptor.read_tls(&mut stream)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) => {}
                Err((error, _)) => return Err(io::Error::other(error)),
            }
        };
        let name = accepted.client_hello().server_name().map(str::to_owned);
        let tls = accepted
            .into_connection(self.certificate(name, to.ip()))
            .map_err(|(error, _)| io::Error::other(error))?;
        self.reply(&mut StreamOwned::new(tls, stream), to, true)
    }

    fn reply(&self, stream: &mut (impl Read + Write), to: SocketAddr, tls: bool) -> io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut piece = [0; 1];
            if stream.read(&mut piece)? == 0 {
                return Ok(());
            }
            head.extend(piece);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let request = Request { to, tls, head };
        let reply = self.answer.lock().unwrap()(&request);
        self.requests.lock().unwrap().push(request);
        let Reply {
            status,
            headers,
            body,
        } = reply;
        let headers: Vec<_> = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let headers = headers.concat();
        // One connection a request: whoever comes again has to look the name up again.
        let answer = format!(
            "HTTP/1.1 {status} As told\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes())?;
        stream.flush()
    }

    /// A certificate for whatever the client wants to reach: TLS is never what stops it.
    fn certificate(&self, name: Option<String>, address: IpAddr) -> Arc<ServerConfig> {
        let mut names = vec![address.to_string()];
        if let IpAddr::V4(v4) = address {
            names.push(v4.to_ipv6_mapped().to_string());
        }
        names.extend(name);
        let mut certificates = self.certificates.lock().unwrap();
        let issue = || {
            let params = CertificateParams::new(names.clone()).unwrap();
            let certificate = params.signed_by(&self.key, &self.authority).unwrap();
            let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
            let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::from(key))
                .unwrap();
            Arc::new(config)
        };
        Arc::clone(certificates.entry(names.clone()).or_insert_with(issue))
    }
}
