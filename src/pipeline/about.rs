//! What an object says of itself, for whoever finds it without its manifest.

use super::keep::Checked;
use crate::{
    attachment::Planned,
    check::Facts,
    event::{CallAnalyzed, text_of},
    metadata,
    store::{About, EVENT_SHA256},
};

/// Of an attachment.
pub(super) fn about(call: &CallAnalyzed, planned: &Planned<'_>, checked: &Checked) -> About {
    let mut values = ids(call);
    values.push(("kind", planned.kind.name.clone()));
    values.push(("sha256", checked.body.sha256().to_string()));
    let agent_id = planned.listed.agent_id.as_deref().and_then(text_of);
    values.extend(agent_id.map(|id| ("agent_id", id)));
    values.extend(
        planned
            .listed
            .organization_id
            .map(|id| ("organization_id", id.to_string())),
    );
    if let Ok(Facts::Wav(wav)) = &checked.verdict {
        values.extend([
            ("wav_codec", wav.codec.as_str().to_owned()),
            ("wav_channels", wav.channels.to_string()),
            ("wav_sample_rate_hz", wav.sample_rate_hz.to_string()),
            ("wav_bits_per_sample", wav.bits_per_sample.to_string()),
            ("duration_ms", wav.duration_ms.to_string()),
        ]);
    }
    About {
        content_type: checked.content_type(planned),
        metadata: metadata::fit(values),
    }
}

/// Of a manifest.
pub(super) fn manifest_about(call: &CallAnalyzed) -> About {
    About {
        content_type: Some("application/json".into()),
        metadata: metadata::fit(ids(call)),
    }
}

/// The metadata of all of an event's objects, its manifest among them.
fn ids(call: &CallAnalyzed) -> Vec<(&'static str, String)> {
    let conversation_id = call.call.conversation_id.as_deref().and_then(text_of);
    let mut values = vec![
        ("call_id", call.call_id.to_string()),
        ("request_id", call.request_id.to_string()),
        (EVENT_SHA256, call.sha256.to_string()),
        ("callvault_version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    values.extend(conversation_id.map(|id| ("conversation_id", id)));
    values
}
