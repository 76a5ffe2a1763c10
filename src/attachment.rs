//! What is known of an attachment before a byte of it is fetched: its kind, its name, its key and its
//! buckets. All of it follows from the event and the configuration alone, so that two workers given
//! the same event write the same keys.

mod apart;
mod key;
mod name;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use uuid::Uuid;

pub use self::key::{KeyTemplate, TemplateError};
use self::name::Taken;
use crate::{
    check::Checker,
    event::{CallAnalyzed, Listed, text_of},
};

/// The kind of what no configured kind matches: archived unchecked in the manifest's bucket.
const OTHER: &str = "other";
/// The most that an attachment of the kind `other` may have, in bytes.
const OTHER_MAX_SIZE: u64 = 64 << 20;
/// The default template; manifests have keys of this shape whatever the configuration says.
const DEFAULT_KEY: &str = "{date}/{call_id}/{request_id}/{file}";
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

impl Planned<'_> {
    /// The name of the bucket for bytes that passed their check, or did not.
    pub fn place(&self, good: bool) -> &str {
        if good { &self.bucket } else { &self.quarantine }
    }
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

    /// The names of all kinds, in the order in which they are tried.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        let kinds = self.kinds.iter().chain([&self.other]);
        kinds.map(|kind| kind.name.as_str())
    }

    /// Decides kind, key and buckets of each attachment, in the event's order.
    pub fn plan<'a>(&self, call: &'a CallAnalyzed) -> Vec<Planned<'a>> {
        let mut taken = Taken::default();
        call.attachments
            .iter()
            .map(|listed| self.place(call, listed, &mut taken))
            .collect()
    }

    /// Whether a key, below a bucket's prefix, has the shape of callvault's: as this configuration makes
    /// them, or as the default one does, which manifests always have.
    pub fn could_be(&self, key: &str) -> bool {
        self.template.could_make(key)
            || apart::together(key).is_some_and(|key| self.template.could_make(&key))
            || KeyTemplate::parse(DEFAULT_KEY).is_ok_and(|default| default.could_make(key))
    }

    /// The keys of the manifests that may name the object under a key: of the event that the key tells, as this
    /// configuration makes keys, or as the default one does. None where it is no key of callvault's.
    pub fn manifests_of(&self, key: &str) -> Vec<String> {
        let own = self.template.manifest_of(key);
        let own = own.or_else(|| self.template.manifest_of(&apart::together(key)?));
        let default = KeyTemplate::parse(DEFAULT_KEY).ok();
        let default = default.and_then(|default| default.manifest_of(key));
        let mut keys: Vec<String> = own.into_iter().chain(default).collect();
        keys.dedup();
        keys
    }

    /// Whether all attachments of a day's calls lie in the day's folder of their buckets, as its manifests do.
    pub fn is_by_day(&self) -> bool {
        self.template.is_by_day()
    }

    fn place<'a>(&self, call: &CallAnalyzed, listed: &'a Listed, taken: &mut Taken) -> Planned<'a> {
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
        Planned {
            listed,
            kind: Arc::clone(kind),
            key: taken.take(apart::apart(wanted)),
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::event::{Event, Id};

    const ACME: &str = "fb545ce8-68e1-4303-ab23-6ba0149fc4b1";

    fn kind(name: &str, file: &str, bucket: &str) -> Kind {
        Kind {
            name: name.into(),
            file: glob::Pattern::new(file).unwrap(),
            check: Checker::None,
            bucket: bucket.into(),
            max_size: 1,
        }
    }

    fn planner(template: &str) -> Planner {
        let buckets = [
            ("recordings", "acme_recordings"),
            ("quarantine", "acme_quarantine"),
        ];
        let map = buckets.map(|(from, to)| (from.to_owned(), to.to_owned()));
        Planner::new(
            vec![
                kind("recording", "*.wav", "recordings"),
                kind("late", "recording.wav", "never"),
            ],
            KeyTemplate::parse(template).unwrap(),
            "documents",
            "quarantine",
            Tenants::from([(ACME.parse().unwrap(), map.into())]),
        )
    }

    fn call(urls: &[&str]) -> CallAnalyzed {
        let attachments: Vec<_> = urls
            .iter()
            .map(|url| json!({"url": url, "agent_id": "a/1"}))
            .collect();
        let event = json!({
            "event": "call.analyzed", "request_id": "r-1",
            "data": {"id": "c-1", "created_at": "2023-08-24T23:30:00-02:00", "attachments": attachments},
        });
        match Event::parse(&Bytes::from(event.to_string())) {
            Ok(Event::Analyzed(call)) => *call,
            other => panic!("{other:?}"),
        }
    }

    fn keys(template: &str, urls: &[&str]) -> Vec<String> {
        planner(template)
            .plan(&call(urls))
            .into_iter()
            .map(|planned| planned.key)
            .collect()
    }

    const DEFAULT: &str = "{date}/{call_id}/{request_id}/{file}";

    #[test]
    fn a_key_follows_from_the_event_and_its_date_is_in_utc() {
        assert_eq!(
            keys(DEFAULT, &["https://h/recording.wav?s=1"]),
            ["2023/08/25/c-1/r-1/recording.wav"]
        );
        let all = "{year}-{month}-{day}/{call_id}/{request_id}/{kind}/{organization_id}/{agent_id}/x-{file}";
        let url = format!("https://h/organization_{ACME}/notes.txt");
        assert_eq!(
            keys(all, &[&url]),
            [format!("2023-08-25/c-1/r-1/other/{ACME}/a_1/x-notes.txt")]
        );
        assert_eq!(
            keys(all, &["https://h/notes.txt"]),
            ["2023-08-25/c-1/r-1/other/none/a_1/x-notes.txt"]
        );
    }

    #[test]
    fn no_two_attachments_of_an_event_share_a_key_nor_take_the_manifests() {
        let urls = [
            "https://h/1/a.wav",
            "https://h/2/a.wav",
            "https://h/a-2.wav",
            "https://h/3/a.wav",
        ];
        let names: Vec<_> = keys(DEFAULT, &urls)
            .iter()
            .map(|key| key[19..].to_owned())
            .collect();
        assert_eq!(names, ["a.wav", "a-2.wav", "a-2-2.wav", "a-3.wav"]);
        let key = &keys(DEFAULT, &["https://h/manifest.json"])[0];
        assert!(key.ends_with("/manifest-2.json"), "{key}");
        let keys = keys("{date}/{call_id}/{request_id}/{kind}", &urls[..2]);
        assert_eq!(
            keys,
            [
                "2023/08/25/c-1/r-1/recording",
                "2023/08/25/c-1/r-1/recording-2"
            ]
        );
    }

    #[test]
    fn no_attachment_is_in_the_way_of_a_manifest() {
        let urls = ["https://h/manifest.json", "https://h/a.wav"];
        let template = "{date}/{call_id}/{request_id}/{file}/{kind}";
        let found = keys(template, &urls);
        let folder = "2023/08/25/c-1/r-1";
        assert_eq!(
            found,
            [
                format!("{folder}/_manifest.json/other"),
                format!("{folder}/a.wav/recording")
            ]
        );
        let planner = planner(template);
        assert!(found.iter().all(|key| planner.could_be(key)));
        // Another event's: its call is this organization's number, its request this call.
        let mut call = call(&[&format!("https://h/organization_{ACME}/a.wav")]);
        call.request_id = Id::new("manifest.json").unwrap();
        let planner = self::planner("{date}/{organization_id}/{call_id}/{request_id}/{file}");
        let key = &planner.plan(&call)[0].key;
        assert_eq!(*key, format!("2023/08/25/{ACME}/c-1/_manifest.json/a.wav"));
        assert!(planner.could_be(key));
    }

    #[test]
    fn the_first_kind_that_matches_decides_and_what_none_matches_is_other() {
        let (planner, call) = (
            planner(DEFAULT),
            call(&["https://h/recording.wav", "https://h/x.txt"]),
        );
        let planned = planner.plan(&call);
        let found: Vec<_> = planned
            .iter()
            .map(|p| (p.kind.name.as_str(), p.bucket.as_str()))
            .collect();
        assert_eq!(found, [("recording", "recordings"), ("other", "documents")]);
        assert_eq!(planned[1].kind.max_size, 64 << 20);
    }

    #[test]
    fn a_tenants_attachments_go_to_its_own_buckets_where_its_map_has_them() {
        let path = format!("https://h/organization_{ACME}");
        let (planner, call) = (
            planner(DEFAULT),
            call(&[
                &format!("{path}/a.wav"),
                &format!("{path}/x.txt"),
                "https://h/a.wav",
            ]),
        );
        let planned = planner.plan(&call);
        let found: Vec<_> = planned
            .iter()
            .map(|p| (p.bucket.as_str(), p.quarantine.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("acme_recordings", "acme_quarantine"),
                ("documents", "acme_quarantine"),
                ("recordings", "quarantine")
            ]
        );
    }

    proptest! {
        #[test]
        fn no_url_and_no_agent_makes_a_key_that_climbs(path in "[ -~]{0,80}", agent in "\\PC{0,40}") {
            let Ok(url) = url::Url::parse(&format!("https://h/{path}")) else { return Ok(()) };
            let mut call = call(&[url.as_str(), url.as_str()]);
            for listed in &mut call.attachments {
                let agent = serde_json::to_string(&agent).unwrap();
                listed.agent_id = serde_json::value::RawValue::from_string(agent).ok();
            }
            let planned = planner("x/{call_id}/{request_id}/{year}-{month}-{day}/{agent_id}/{file}").plan(&call);
            prop_assert_ne!(&planned[0].key, &planned[1].key);
            for planned in planned {
                prop_assert!(planned.key.starts_with("x/c-1/r-1/"));
                prop_assert_eq!(planned.key.split('/').count(), 6);
                prop_assert!(planned.key.split('/').all(|segment| !segment.is_empty() && !segment.starts_with('.')));
            }
        }
    }
}
