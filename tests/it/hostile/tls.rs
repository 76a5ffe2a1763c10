//! TLS that is none, not theirs, not yet, no more, or cut off.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use super::row::{Row, answer, answer_then, drip, flood, ok, refused, say, taken, whole};
use crate::support::script::Act;

/// Who signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server of these names.
    fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        self.server_with(&params(names), &[&TLS12, &TLS13])
    }

    fn server_with(
        &self,
        params: &CertificateParams,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private(&key));
        Arc::new(config.unwrap())
    }

    /// One that asks the client who it is, and insists where `must`.
    fn asking(&self, must: bool) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let verifier = if must {
            verifier
        } else {
            verifier.allow_unauthenticated()
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params(&["127.0.0.1"]).signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate.der().clone()], private(&key));
        Arc::new(config.unwrap())
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    CertificateParams::new(names).unwrap()
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(key.serialize_der()).unwrap()
}

pub(super) fn rows(authority: &Authority) -> Vec<Row> {
    let mut rows = certificates(authority);
    rows.extend(handshakes(authority));
    rows.extend(sessions(authority));
    rows
}

/// Whoever cannot prove who it is hears nothing: no request, and so no path, of callvault's.
fn certificates(authority: &Authority) -> Vec<Row> {
    let stranger = Authority::new("a stranger");
    let known = |params: &CertificateParams| authority.server_with(params, &[&TLS12, &TLS13]);
    let mut expired = params(&["127.0.0.1"]);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = params(&["127.0.0.1"]);
    early.not_before = date_time_ymd(2999, 1, 1);
    let names: Vec<String> = (0..1500).map(|n| format!("canary-{n}.example")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).collect();
    let own = {
        let key = KeyPair::generate().unwrap();
        let certificate = params(&["127.0.0.1"]).self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private(&key));
        Arc::new(config.unwrap())
    };
    [
        ("an expired certificate", known(&expired)),
        ("a certificate of tomorrow", known(&early)),
        ("a certificate signed by itself", own),
        (
            "a certificate of a stranger's",
            stranger.server(&["127.0.0.1"]),
        ),
        (
            "a certificate of another name",
            authority.server(&["another.example"]),
        ),
        (
            "a certificate of another address",
            authority.server(&["127.0.0.2"]),
        ),
        (
            "a certificate of 1,500 other names",
            authority.server(&many),
        ),
        (
            "a server that insists on a client's certificate",
            authority.asking(true),
        ),
    ]
    .into_iter()
    .map(|(name, tls)| {
        // Not one of them gets to the request, whatever it would answer.
        refused(name, whole(b"all of it"), "tls")
            .tls(&tls)
            .requests(0)
    })
    .collect()
}

/// What comes in place of a handshake, or within.
fn handshakes(authority: &Authority) -> Vec<Row> {
    let raw = |name, acts, code| refused(name, acts, code).scheme("https");
    let hello = |version: u8| {
        let mut hello = vec![2, 0, 0, 38, 3, version];
        hello.extend([7; 32]);
        // No session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
        hello.extend([0, 0, 0x2f, 0]);
        let mut record = vec![0x16, 3, version, 0, 42];
        record.extend(hello);
        record
    };
    // Records of 1,000 bytes of one handshake message that says it has 16 MiB.
    let mut start = vec![0x16, 3, 3, 3, 0xec, 2, 0xff, 0xff, 0xff];
    start.extend([0; 1000]);
    let mut more = vec![0x16, 3, 3, 3, 0xe8];
    more.extend([0; 1000]);
    let warning = [0x15, 3, 3, 0, 2, 1, 90];
    vec![
        raw(
            "plain HTTP on a TLS port",
            vec![say("HTTP/1.1 200 OK\r\n\r\n"), Act::Hang],
            "tls",
        ),
        refused("TLS on a plain port", vec![Act::Read], "connect")
            .tls(&authority.server(&["127.0.0.1"]))
            .scheme("http")
            .requests(0),
        raw(
            "silence in place of a handshake",
            vec![Act::Hang],
            "timeout",
        ),
        raw("an end in place of a handshake", vec![say("")], "connect"),
        raw(
            "a reset in place of a handshake",
            vec![Act::Reset],
            "connect",
        ),
        raw(
            "garbage in place of a handshake",
            vec![flood([0xa5; 4096])],
            "tls",
        )
        .takes(48 << 20),
        raw("TLS 1.0", vec![say(hello(1)), Act::Hang], "tls"),
        raw("TLS 1.1", vec![say(hello(2)), Act::Hang], "tls"),
        raw(
            "a cipher that was not offered",
            vec![say(hello(3)), Act::Hang],
            "tls",
        ),
        raw(
            "a record of 64 KiB",
            vec![say([0x16, 3, 3, 0xff, 0xff]), flood([0; 4096])],
            "tls",
        ),
        raw(
            "an endless handshake message",
            vec![say(start), flood(more)],
            "tls",
        )
        .takes(48 << 20),
        raw("a dripping handshake", vec![drip(hello(3))], "timeout"),
        raw("warnings for ever", vec![flood(warning.repeat(100))], "tls").takes(48 << 20),
        raw("warnings, dripping", vec![drip(warning)], "timeout"),
        raw(
            "a refusal",
            vec![say([0x15, 3, 3, 0, 2, 2, 40]), Act::Hang],
            "tls",
        ),
    ]
}

fn sessions(authority: &Authority) -> Vec<Row> {
    let good = authority.server(&["127.0.0.1"]);
    let pause = || Act::Pause(Duration::from_millis(100));
    let cut = |bytes: Vec<u8>| answer_then(bytes, vec![pause(), Act::Cut]);
    let below = |acts: Vec<Act>| {
        let mut script = answer_then(
            ok("Content-Length: 9\r\n", "all"),
            vec![pause(), Act::Unwrap],
        );
        script.extend(acts);
        script
    };
    let rows = vec![
        taken("TLS as it should be", whole(b"all of it"), "all of it"),
        taken(
            "a body that ends with the connection, and a farewell",
            answer(ok("", "all of it")),
            "all of it",
        ),
        // Anybody on the way can cut a connection: without the farewell it is not known to be whole.
        refused(
            "a body that ends with the connection, and no farewell",
            cut(ok("", "all of it")),
            "body_incomplete",
        ),
        refused(
            "a body of HTTP/1.0 that ends with the connection, and no farewell",
            cut(b"HTTP/1.0 200 OK\r\n\r\nall of it".into()),
            "body_incomplete",
        ),
        refused(
            "no body and no farewell",
            cut(ok("", "")),
            "body_incomplete",
        ),
        refused(
            "a body that is cut off under TLS",
            cut(ok("Content-Length: 9\r\n", "all")),
            "body_incomplete",
        ),
        refused(
            "a last chunk that is cut off under TLS",
            cut(ok(
                "Transfer-Encoding: chunked\r\n",
                "9\r\nall of it\r\n0\r\n",
            )),
            "body_incomplete",
        ),
        taken(
            "a whole body and no farewell",
            cut(ok("Content-Length: 9\r\n", "all of it")),
            "all of it",
        ),
        refused(
            "silence after the handshake",
            vec![Act::Read, Act::Hang],
            "timeout",
        ),
        refused(
            "an end after the handshake",
            vec![Act::Read, say("")],
            "connect",
        ),
        refused(
            "garbage after the handshake",
            vec![Act::Read, Act::Unwrap, say([0xa5; 64]), Act::Hang],
            "tls",
        ),
        refused(
            "HTTP in the clear after the handshake",
            vec![
                Act::Read,
                Act::Unwrap,
                say(ok("Content-Length: 9\r\n", "all of it")),
                Act::Hang,
            ],
            "tls",
        ),
        refused(
            "garbage within the body",
            below(vec![say([0xa5; 64]), Act::Hang]),
            "tls",
        ),
        refused(
            "the rest of the body in the clear",
            below(vec![say(" of it"), Act::Cut]),
            "tls",
        ),
        refused(
            "a record that nobody sealed",
            below(vec![
                say(b"\x17\x03\x03\x00\x20 of it of it of it of it of it of"),
                Act::Hang,
            ]),
            "tls",
        ),
        refused(
            "a dripping body under TLS",
            answer_then(ok("", ""), vec![drip("y")]),
            "timeout",
        )
        .connections(1),
    ];
    let mut rows: Vec<Row> = rows.into_iter().map(|row| row.tls(&good)).collect();
    rows.push(
        taken("TLS 1.2 alone", whole(b"all of it"), "all of it")
            .tls(&authority.server_with(&params(&["127.0.0.1"]), &[&TLS12])),
    );
    rows.push(
        refused(
            "a body of TLS 1.2 that ends with the connection, and no farewell",
            cut(ok("", "all of it")),
            "body_incomplete",
        )
        .tls(&authority.server_with(&params(&["127.0.0.1"]), &[&TLS12])),
    );
    rows.push(
        taken(
            "a server that asks for a client's certificate, and goes without",
            whole(b"all of it"),
            "all of it",
        )
        .tls(&authority.asking(false)),
    );
    rows
}
