//! Certificate authorities beside those that the TLS library finds by itself.

use std::env;

use base64::{Engine, engine::general_purpose::STANDARD};

/// The system's authorities, where `SSL_CERT_FILE` is set: the TLS library then takes those of that
/// file alone, whereas an operator who names the authority of one store or origin means it in
/// addition. Without the variable there is nothing to add. DER, one authority each.
pub fn beside_the_environments() -> Vec<Vec<u8>> {
    if env::var_os("SSL_CERT_FILE").is_none() {
        return Vec::new();
    }
    let found = openssl_probe::candidate_cert_dirs()
        .map(|dir| rustls_native_certs::load_certs_from_paths(None, Some(dir)))
        .flat_map(|found| found.certs);
    let mut authorities: Vec<Vec<u8>> = found.map(|certificate| certificate.to_vec()).collect();
    // The directories hold many an authority twice: by itself, and in the bundle of all.
    authorities.sort_unstable();
    authorities.dedup();
    authorities
}

/// The same for who takes PEM alone (RFC 7468).
pub fn beside_the_environments_in_pem() -> String {
    let pem = |der: Vec<u8>| {
        let text = STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    beside_the_environments().into_iter().map(pem).collect()
}
