//! What to do about a store that cannot be used: the first thing to try, before its own words.

use object_store::Error as BackendError;

use super::{Bucket, Cause, StoreError, uploads::Uploads};
use crate::telemetry;

const NO_BUCKET: &str = "create the bucket, or correct its name in url (and the account, endpoint or region in options)";
const NO_RIGHT: &str =
    "grant the credentials the right to get, put and list objects under the bucket's prefix";
const WRONG_KEY: &str =
    "correct the credentials: the store does not know them, or their secret part is another one";
const REGION: &str = "correct region or endpoint in the bucket's options: the bucket is elsewhere";
const CLOCK: &str = "set this machine's clock, by NTP (timedatectl set-ntp true)";
const TRUST: &str = "add the store's certificate authority with SSL_CERT_FILE, and name the host as its certificate does";
const PLAIN: &str = "write https:// in the endpoint, or allow_http = \"true\"";
const NO_TLS: &str =
    "the endpoint speaks no TLS: write http:// and allow_http = \"true\", or the port that does";
const NO_HOST: &str = "correct the endpoint's host, or this machine's DNS";
const REFUSED: &str = "start the store, or correct host and port of the endpoint";
const SILENT: &str = "look at firewalls, proxies and network policies on the way to the store";

/// What stands in the words of an error, in lower case, and what it means. The first one counts.
const SIGNS: &[(&[&str], &str)] = &[
    (&["requesttimetooskewed", "requestexpired"], CLOCK),
    (
        &[
            "invalidaccesskeyid",
            "signaturedoesnotmatch",
            "invalid_grant",
            "authenticationfailed",
        ],
        WRONG_KEY,
    ),
    (
        &["expiredtoken", "invalidtoken", "tokenrefreshrequired"],
        "renew the session's credentials: they are over",
    ),
    (
        &[
            "permanentredirect",
            "authorizationheadermalformed",
            "redirect",
            "illegallocationconstraint",
        ],
        REGION,
    ),
    (
        &["nosuchbucket", "containernotfound", "bucket does not exist"],
        NO_BUCKET,
    ),
    (
        &[
            "accessdenied",
            "authorizationpermissionmismatch",
            "forbidden",
        ],
        NO_RIGHT,
    ),
    (&["invalidcontenttype"], NO_TLS),
    (&["unknownissuer", "certificate", "invalid peer"], TRUST),
    (&["url scheme is not allowed", "badscheme"], PLAIN),
    (&["dns error", "failed to lookup"], NO_HOST),
    (&["connection refused"], REFUSED),
    (
        &["timed out", "unreachable", "connect error", "timeout"],
        SILENT,
    ),
];

impl Bucket {
    /// What to do about a failure.
    pub fn remedy(&self, error: &StoreError) -> &'static str {
        let words = telemetry::chain(error).to_ascii_lowercase();
        // Asked for credentials last of all: nobody has given any.
        let of_machine = [
            "169.254.169.254",
            "metadata.google",
            "/metadata",
            "instance metadata",
        ];
        if of_machine.iter().any(|sign| words.contains(sign)) {
            return self.no_credentials();
        }
        let signs = |signs: &&[&str]| signs.iter().any(|sign| words.contains(sign));
        if let Some((_, remedy)) = SIGNS.iter().find(|(those, _)| signs(those)) {
            return remedy;
        }
        match &error.source {
            Cause::Backend(BackendError::NotFound { .. }) => NO_BUCKET,
            Cause::Backend(BackendError::PermissionDenied { .. }) => NO_RIGHT,
            Cause::Backend(BackendError::Unauthenticated { .. }) => WRONG_KEY,
            Cause::Disk(_) => {
                "look at the folder: is it mounted, may callvault's user write, is there room"
            }
            _ if self.folder().is_some() => {
                "look at the folder: is it mounted, may callvault's user write, is there room"
            }
            _ => "look at the store's own log; what it says stands before this",
        }
    }

    fn no_credentials(&self) -> &'static str {
        match &self.uploads {
            Uploads::S3 { .. } => {
                "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or \
                 access_key_id and secret_access_key in the bucket's options, or give the machine a role"
            }
            Uploads::Google { .. } => {
                "there are no credentials: set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or give \
                 the machine one"
            }
            Uploads::Azure => {
                "there are no credentials: set AZURE_STORAGE_ACCOUNT_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and \
                 AZURE_TENANT_ID, or give the machine an identity"
            }
            Uploads::Folder { .. } | Uploads::InMemory => "",
        }
    }
}
