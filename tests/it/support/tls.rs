//! TLS before a server that has none.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A running listener; it ends with its value.
pub(crate) struct Tls {
    address: SocketAddr,
    sessions: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Tls {
    /// Before a server at `host:port`, with a certificate and its key out of a folder: `NAME.pem` and
    /// `NAME.key`.
    pub(crate) async fn before(server: &str, dir: &Path, name: &str) -> Self {
        Self::speaking(&[&TLS13, &TLS12], server, dir, name).await
    }

    /// The same, with TLS 1.2 alone.
    pub(crate) async fn old_before(server: &str, dir: &Path, name: &str) -> Self {
        Self::speaking(&[&TLS12], server, dir, name).await
    }

    async fn speaking(
        versions: &[&'static SupportedProtocolVersion],
        server: &str,
        dir: &Path,
        name: &str,
    ) -> Self {
        let certificate = CertificateDer::from_pem_file(dir.join(format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, sessions) = (server.to_owned(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&sessions);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (acceptor, server) = (acceptor.clone(), server.clone());
                let counted = Arc::clone(&counted);
                // A client that does not trust this listener goes away.
                tokio::spawn(async move {
                    let mut client = acceptor.accept(client).await.ok()?;
                    counted.fetch_add(1, Ordering::Relaxed);
                    let mut server = TcpStream::connect(server).await.ok()?;
                    copy_bidirectional(&mut client, &mut server).await.ok()
                });
            }
        });
        Self {
            address,
            sessions,
            task,
        }
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many sessions there were that the client did not break off.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.task.abort();
    }
}
