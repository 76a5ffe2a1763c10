//! The types that a value of the configuration can have, and what is said of any other.

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;
use secrecy::SecretString;

use super::{
    mistake::{Fault, quoted},
    tree::{Node, Table, Value, parse_value},
};

/// A type that a value of the configuration can have.
pub(super) trait FromNode: Sized {
    fn from_node(node: Node) -> Result<Self, Fault>;
}

impl FromNode for String {
    fn from_node(node: Node) -> Result<Self, Fault> {
        match node.value {
            Value::Text(text) | Value::Variable(text) => Ok(text),
            other => Err(mismatch("text", &other, "write it in quotes")),
        }
    }
}

/// Never shown in a message. Stores' options are texts to the stores, and often numbers to people.
impl FromNode for SecretString {
    fn from_node(node: Node) -> Result<Self, Fault> {
        match node.value {
            Value::Text(text) | Value::Variable(text) => Ok(text.into()),
            Value::Whole(number) => Ok(number.to_string().into()),
            Value::Truth(truth) => Ok(truth.to_string().into()),
            other => Err(mismatch("text", &other, "write it in quotes")),
        }
    }
}

impl FromNode for bool {
    fn from_node(node: Node) -> Result<Self, Fault> {
        match node.value {
            Value::Truth(truth) => Ok(truth),
            Value::Variable(text) => text.trim().parse().map_err(|_| {
                Fault::new(
                    format!("{} is neither true nor false", quoted(&text)),
                    "write one of the two",
                )
            }),
            other => Err(mismatch(
                "true or false",
                &other,
                "write one of the two, without quotes",
            )),
        }
    }
}

impl FromNode for i64 {
    fn from_node(node: Node) -> Result<Self, Fault> {
        match node.value {
            Value::Whole(number) => Ok(number),
            Value::Variable(text) => text.trim().parse().map_err(|_| {
                Fault::new(
                    format!("{} is not a whole number", quoted(&text)),
                    "write digits alone",
                )
            }),
            other => Err(mismatch(
                "a whole number",
                &other,
                "write digits alone, without quotes",
            )),
        }
    }
}

impl FromNode for Vec<Node> {
    fn from_node(node: Node) -> Result<Self, Fault> {
        const MEND: &str = r#"write it as a TOML array, such as ["one", "two"]"#;
        let value = match node.value {
            Value::Variable(text) => match parse_value(&text, &node.place) {
                Some(value) => value,
                None => return Err(Fault::new("not a list", MEND)),
            },
            value => value,
        };
        match value {
            Value::List(items) => Ok(items),
            table @ Value::Table(_) => Err(mismatch(
                "a list",
                &table,
                "write the name in double brackets, as in [[tenants]], for each table of the list",
            )),
            other => Err(mismatch("a list", &other, MEND)),
        }
    }
}

impl FromNode for Table {
    fn from_node(node: Node) -> Result<Self, Fault> {
        const MEND: &str = "write a TOML table: its [name] with its keys below, or { key = value }";
        let value = match node.value {
            Value::Variable(text) => match parse_value(&text, &node.place) {
                Some(value) => value,
                None => return Err(Fault::new("not a table", MEND)),
            },
            value => value,
        };
        match value {
            Value::Table(table) => Ok(table),
            other => Err(mismatch("a table", &other, MEND)),
        }
    }
}

impl FromNode for Duration {
    fn from_node(node: Node) -> Result<Self, Fault> {
        const MEND: &str = r#"write a number with a unit, such as "30s", "5m" or "1h""#;
        // The longest that RabbitMQ lets a message wait: 2^32 - 1 milliseconds.
        const LONGEST: Duration = Duration::from_millis(u32::MAX as u64);
        let text = match node.value {
            Value::Whole(number) => return Err(Fault::new(format!("{number} has no unit"), MEND)),
            Value::Text(text) | Value::Variable(text) => text,
            other => return Err(mismatch("a duration", &other, MEND)),
        };
        let shown = quoted(&text);
        match humantime::parse_duration(text.trim()) {
            Err(_) => Err(Fault::new(format!("{shown} is not a duration"), MEND)),
            Ok(duration) if duration < Duration::from_millis(1) => Err(Fault::new(
                format!("{shown} is no time at all"),
                "write 1ms or more",
            )),
            Ok(duration) if duration > LONGEST => Err(Fault::new(
                format!("{shown} is too long"),
                "write 49 days or less",
            )),
            Ok(duration) => Ok(duration),
        }
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

impl FromNode for Bytes {
    fn from_node(node: Node) -> Result<Self, Fault> {
        const MEND: &str = r#"write a number with a unit, such as "512KiB", "8MiB" or "4GiB""#;
        let text = match node.value {
            Value::Whole(number) => number.to_string(),
            Value::Text(text) | Value::Variable(text) => text,
            other => return Err(mismatch("a size", &other, MEND)),
        };
        match text.trim().parse::<ByteSize>() {
            Err(_) => Err(Fault::new(format!("{} is not a size", quoted(&text)), MEND)),
            Ok(ByteSize(0)) => Err(Fault::new(format!("{} holds nothing", quoted(&text)), MEND)),
            // Sums of sizes stay within 64 bits.
            Ok(ByteSize(size)) if size > bytesize::PIB => Err(Fault::new(
                format!("{} is too large", quoted(&text)),
                "write 1PiB or less",
            )),
            Ok(ByteSize(size)) => Ok(Self(size)),
        }
    }
}

/// A number of the type asked for, if it lies within the bounds.
pub(super) fn whole_within<N: TryFrom<i64>>(
    number: i64,
    bounds: &RangeInclusive<i64>,
    mend: &str,
) -> Result<N, Fault> {
    let outside = || {
        let (least, most) = (bounds.start(), bounds.end());
        Fault::new(format!("{number} is not between {least} and {most}"), mend)
    };
    if !bounds.contains(&number) {
        return Err(outside());
    }
    N::try_from(number).map_err(|_| outside())
}

fn mismatch(expected: &str, found: &Value, mend: &str) -> Fault {
    Fault::new(
        format!("{expected} is expected, not {}", found.type_name()),
        mend,
    )
}
