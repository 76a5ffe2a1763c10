//! Looking at the structure of JSON text without parsing it: no recursion, no allocation.

/// Tells the bytes of JSON text that stand outside strings, one after the other.
#[derive(Debug, Default)]
pub struct OutsideStrings {
    inside: bool,
    escaped: bool,
}

impl OutsideStrings {
    /// Whether the next byte stands outside strings; quotes do not.
    pub fn takes(&mut self, byte: u8) -> bool {
        if self.inside {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.inside = false,
                _ => {}
            }
            return false;
        }
        self.inside = byte == b'"';
        !self.inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_what_is_escaped_in_them_are_passed_over() {
        let mut outside = OutsideStrings::default();
        let text = br#"{"a\"{[": ["\\", 1], "b": {}}"#;
        let seen: Vec<u8> = text
            .iter()
            .copied()
            .filter(|byte| outside.takes(*byte))
            .collect();
        assert_eq!(seen, br"{: [, 1], : {}}");
    }
}
