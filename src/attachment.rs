//! What is known of an attachment before a byte of it is fetched: its kind, its name, its key and its
//! buckets. All of it follows from the event and the configuration alone, so that two workers given
//! the same event write the same keys.

mod key;
mod name;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

pub use self::key::{KeyTemplate, TemplateError};
use crate::{
    check::Checker,
    event::{CallAnalyzed, Listed, text_of},
};

/// The kind of what no configured kind matches: archived unchecked in the manifest's bucket.
const OTHER: &str = "other";
/// The most that an attachment of the kind `other` may have, in bytes.
const OTHER_MAX_SIZE: u64 = 64 << 20;
/// A key's last segment that is never given to an attachment.
const MANIFEST: &str = "manifest.json";

/// A kind of attachment: how it is recognised, checked and kept.
#[derive(Debug)]
pub struct Kind {
    /// Its name in the configuration and in manifests.
    pub name: String,
    /// Matched against the last segment of the URL's path.
    pub file: glob::Pattern,
    /// What its bytes must be.
    pub check: Checker,
    /// The name of its bucket, before a tenant's map.
    pub bucket: String,
    /// The most that it may have, in bytes.
    pub max_size: u64,
}

/// For some organizations, other buckets: from a bucket's name to another's.
pub type Tenants = HashMap<Uuid, BTreeMap<String, String>>;

/// The rules that turn an event's list into [`Planned`] attachments.
#[derive(Debug)]
pub struct Planner {
    kinds: Vec<Arc<Kind>>,
    other: Arc<Kind>,
    template: KeyTemplate,
    quarantine: String,
    tenants: Tenants,
}

/// One attachment with its place decided.
#[derive(Debug)]
pub struct Planned<'a> {
    /// As the event lists it.
    pub listed: &'a Listed,
    /// The first kind that matches.
    pub kind: Arc<Kind>,
    /// Its object key, in whichever bucket it ends.
    pub key: String,
    /// The name of the bucket where it belongs.
    pub bucket: String,
    /// The name of the bucket where it goes when its check fails.
    pub quarantine: String,
}

impl Planner {
    /// Kinds are tried in their order; `manifest_bucket` takes what none of them matches.
    pub fn new(
        kinds: Vec<Kind>,
        template: KeyTemplate,
        manifest_bucket: &str,
        quarantine: &str,
        tenants: Tenants,
    ) -> Self {
        let other = Kind {
            name: OTHER.into(),
            file: glob::Pattern::default(),
            check: Checker::None,
            bucket: manifest_bucket.into(),
            max_size: OTHER_MAX_SIZE,
        };
        Self {
            kinds: kinds.into_iter().map(Arc::new).collect(),
            other: Arc::new(other),
            template,
            quarantine: quarantine.into(),
            tenants,
        }
    }

    /// Decides kind, key and buckets of each attachment, in the event's order.
    pub fn plan<'a>(&self, call: &'a CallAnalyzed) -> Vec<Planned<'a>> {
        let mut taken = HashSet::from([manifest_key(call)]);
        call.attachments
            .iter()
            .map(|listed| self.place(call, listed, &mut taken))
            .collect()
    }

    fn place<'a>(
        &self,
        call: &CallAnalyzed,
        listed: &'a Listed,
        taken: &mut HashSet<String>,
    ) -> Planned<'a> {
        let name = name::last_segment(&listed.url);
        let kind = self
            .kinds
            .iter()
            .find(|kind| kind.file.matches(&name))
            .unwrap_or(&self.other);
        let wanted = self.template.render(&key::Fields {
            call,
            kind: &kind.name,
            organization_id: listed.organization_id,
            agent_id: listed.agent_id.as_deref().and_then(text_of).as_deref(),
            file: &name::safe(&name),
        });
        let key = name::free(&wanted, |key| {
            taken.contains(key) || key.rsplit('/').next() == Some(MANIFEST)
        });
        taken.insert(key.clone());
        Planned {
            listed,
            kind: Arc::clone(kind),
            key,
            bucket: self.bucket_for(listed.organization_id, &kind.bucket),
            quarantine: self.bucket_for(listed.organization_id, &self.quarantine),
        }
    }

    fn bucket_for(&self, organization: Option<Uuid>, bucket: &str) -> String {
        organization
            .and_then(|id| self.tenants.get(&id)?.get(bucket))
            .map_or_else(|| bucket.to_owned(), Clone::clone)
    }
}

/// The key of an event's manifest; no configuration changes it.
pub fn manifest_key(call: &CallAnalyzed) -> String {
    let date = call.created_at.format("%Y/%m/%d");
    format!("{date}/{}/{}/{MANIFEST}", call.call_id, call.request_id)
}
