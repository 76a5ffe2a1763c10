//! A message's properties and headers, whatever their types, as JSON.

use chrono::SecondsFormat;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};

use super::letter::moment;

/// Headers nest no deeper than this in a description: they come from anybody.
const DEEPEST: usize = 16;

/// Everything but the headers; what a message lacks is left out.
pub(super) fn properties(properties: &BasicProperties) -> Map<String, Value> {
    let mut described = Map::new();
    macro_rules! text {
        ($($property:ident),*) => {
            $(if let Some(value) = properties.$property() {
                described.insert(stringify!($property).into(), value.as_str().into());
            })*
        };
    }
    text!(
        content_type,
        content_encoding,
        correlation_id,
        reply_to,
        expiration,
        message_id,
        kind,
        user_id,
        app_id
    );
    let numbers = [
        ("delivery_mode", properties.delivery_mode()),
        ("priority", properties.priority()),
    ];
    for (name, value) in numbers {
        described.extend(value.map(|value| (name.to_owned(), value.into())));
    }
    if let Some(at) = properties.timestamp() {
        described.insert("timestamp".into(), timestamp(*at));
    }
    described
}

/// The headers.
pub(super) fn headers(properties: &BasicProperties) -> Value {
    properties
        .headers()
        .as_ref()
        .map_or_else(|| json!({}), |headers| table(headers, 0))
}

fn table(table: &FieldTable, depth: usize) -> Value {
    let described = table
        .inner()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value_of(value, depth + 1)));
    Value::Object(described.collect())
}

fn value_of(value: &AMQPValue, depth: usize) -> Value {
    if depth > DEEPEST {
        return "…".into();
    }
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::DecimalValue(value) => {
            (f64::from(value.value) / 10_f64.powi(value.scale.into())).into()
        }
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into(),
        AMQPValue::FieldArray(values) => {
            let values = values.as_slice().iter();
            values.map(|value| value_of(value, depth + 1)).collect()
        }
        AMQPValue::Timestamp(at) => timestamp(*at),
        AMQPValue::FieldTable(inner) => table(inner, depth),
        AMQPValue::Void => Value::Null,
    }
}

fn timestamp(seconds: u64) -> Value {
    match moment(seconds) {
        Some(at) => at.to_rfc3339_opts(SecondsFormat::Secs, true).into(),
        None => seconds.into(),
    }
}

/// About how much memory the headers take, in bytes.
pub(super) fn weight(properties: &BasicProperties) -> usize {
    fn of_table(table: &FieldTable) -> usize {
        let pairs = table.inner().iter();
        pairs
            .map(|(name, value)| 128 + name.as_str().len() + of_value(value))
            .sum()
    }
    fn of_value(value: &AMQPValue) -> usize {
        match value {
            AMQPValue::LongString(text) => text.len(),
            AMQPValue::ByteArray(bytes) => bytes.len(),
            AMQPValue::FieldArray(values) => {
                values.as_slice().iter().map(|v| 64 + of_value(v)).sum()
            }
            AMQPValue::FieldTable(table) => of_table(table),
            _ => 0,
        }
    }
    properties.headers().as_ref().map_or(0, of_table)
}
