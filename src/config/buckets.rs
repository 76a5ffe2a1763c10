//! `[buckets.<name>]` and `[[tenants]]`: the places to archive to, and for whom.

use std::collections::BTreeMap;

use super::{
    Bucket, Tenant,
    folder::Folder,
    mistake::{Fault, quoted},
    read::Section,
    urls,
};

/// All names in `[buckets]`, also of those whose table is wrong: one mistake is not two.
#[derive(Debug)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// The name, if it is that of a bucket.
    pub(super) fn judge(&self, name: String) -> Result<String, Fault> {
        if self.0.contains(&name) {
            return Ok(name);
        }
        let mend = match (well_named(&name), self.0.is_empty()) {
            (true, true) => format!("add `[buckets.{name}]` with a url"),
            (true, false) => {
                format!(
                    "add `[buckets.{name}]` with a url, or name one of: {}",
                    self.0.join(", ")
                )
            }
            (false, true) => "add a table to `[buckets]`, and write its name here".to_owned(),
            (false, false) => format!("name one of: {}", self.0.join(", ")),
        };
        Err(Fault::new(
            format!("there is no bucket {}", quoted(&name)),
            mend,
        ))
    }
}

fn well_named(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

pub(super) fn buckets(section: Section<'_>, folder: &Folder) -> (Vec<Bucket>, Names) {
    let names = Names(section.names());
    let mut buckets = Vec::new();
    section.each(|name, mut section| {
        if !well_named(name) {
            section.own_fault(Fault::new(
                "not a bucket's name",
                "write 1 to 64 of the characters A-Z a-z 0-9 _ -",
            ));
        }
        let url = section.require(
            "url",
            r#"write one, such as url = "file:../archive""#,
            |url: String| urls::bucket(&url, folder.path()),
        );
        let options = section.section("options").into_map(Ok);
        section.finish();
        if let Some(url) = url {
            buckets.push(Bucket {
                name: name.to_owned(),
                url,
                options,
            });
        }
    });
    (buckets, names)
}

pub(super) fn tenants(root: &mut Section<'_>, names: &Names) -> Vec<Tenant> {
    let mut tenants: Vec<Tenant> = Vec::new();
    root.each_in_list("tenants", |mut section| {
        let mend = "write the UUID that stands after `organization_` in the attachments' URLs";
        let id = section.require("organization_id", mend, |id: String| {
            let id = uuid(&id, mend)?;
            if tenants.iter().any(|tenant| tenant.organization_id == id) {
                let what = format!("{id} has a table already");
                return Err(Fault::new(what, "write one table for each organization"));
            }
            Ok(id)
        });
        let buckets = tenant_buckets(&mut section, names);
        section.finish();
        if let Some(organization_id) = id {
            tenants.push(Tenant {
                organization_id,
                buckets,
            });
        }
    });
    tenants
}

fn tenant_buckets(section: &mut Section<'_>, names: &Names) -> BTreeMap<String, String> {
    const MEND: &str =
        r#"write which bucket stands in for which, such as { recordings = "acme_recordings" }"#;
    if !section.has("buckets") {
        section.fault("buckets", Fault::new("missing", MEND));
    }
    let mut inner = section.section("buckets");
    for name in inner.names() {
        if let Err(fault) = names.judge(name.clone()) {
            inner.fault(&name, fault);
        }
    }
    inner.into_map(|name| names.judge(name))
}

/// A UUID in its usual form, in lower case.
fn uuid(text: &str, mend: &str) -> Result<String, Fault> {
    const LENGTHS: [usize; 5] = [8, 4, 4, 4, 12];
    let hex = |part: &str| part.bytes().all(|c| c.is_ascii_hexdigit());
    if text.split('-').map(str::len).eq(LENGTHS) && text.split('-').all(hex) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Fault::new(format!("{} is not a UUID", quoted(text)), mend))
}
