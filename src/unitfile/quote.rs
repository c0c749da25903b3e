// SPDX-License-Identifier: Apache-2.0
//! Quoting of single words for directives that split their value (systemd.syntax(7), "Quoting").
//!
//! Only the escapes that every splitting directive understands are used: `\"` and `\\` within
//! double quotes. The C escapes (`\x20`, `\n`) are taken literally by some of them.

/// One word, quoted unless it is made of harmless characters only.
pub fn word(word: &str) -> String {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"/._-:@+,=%".contains(&b) || b >= 0x80;
    if !word.is_empty() && word.bytes().all(harmless) {
        return word.to_owned();
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('"');
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (input, expected) in [
            ("/srv/www-1_2.x@y", "/srv/www-1_2.x@y"),
            ("/srv/ä", "/srv/ä"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a'b", "\"a'b\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            (";", "\";\""),
            ("#x", "\"#x\""),
        ] {
            assert_eq!(word(input), expected, "{input:?}");
        }
    }
}
