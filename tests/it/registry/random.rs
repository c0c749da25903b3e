// SPDX-License-Identifier: Apache-2.0
//! The parsers of what registries send, with random text (threats R10, R13, R14, R18): no
//! panic, and what is taken means one thing.

use std::time::SystemTime;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use wharf::registry::challenge::Challenge;
use wharf::registry::parse_retry_after;
use wharf::registry::range::ContentRange;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn r10_no_challenge_panics(field in "[ -~\\t]{0,80}|(Basic|Bearer|realm|[=,\"\\\\ ])*|\\PC{0,40}") {
        if let Ok(challenges) = Challenge::parse_all(&field) {
            for challenge in challenges {
                prop_assert!(!challenge.scheme.is_empty());
                let upper = challenge.scheme.bytes().any(|byte| byte.is_ascii_uppercase());
                prop_assert!(!upper);
            }
        }
    }

    #[test]
    fn r10_a_quoted_value_is_read_as_it_was_written(value in "[ -~]{0,60}", other in "[!-~]{0,20}") {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let field = format!(
            "Negotiate, Bearer realm=\"{}\",service=\"{}\", Basic realm=x",
            quoted(&value),
            quoted(&other)
        );
        let challenges = Challenge::parse_all(&field).unwrap();
        prop_assert_eq!(challenges.len(), 3);
        prop_assert_eq!(challenges[1].parameter("realm"), Some(value.as_str()));
        prop_assert_eq!(challenges[1].parameter("service"), Some(other.as_str()));
    }

    #[test]
    fn r13_a_range_is_what_it_says(first in any::<u64>(), last in any::<u64>(), total in prop::option::of(any::<u64>())) {
        let shown = total.map_or("*".to_owned(), |total| total.to_string());
        let parsed = ContentRange::parse(&format!("bytes {first}-{last}/{shown}"));
        let is_good = first <= last && total.is_none_or(|total| last < total);
        prop_assert_eq!(parsed, is_good.then_some(ContentRange { first, last, total }));
    }

    #[test]
    fn r13_no_range_panics(field in "bytes [0-9*/-]{0,50}|\\PC{0,40}", first in any::<u64>(), size in any::<u64>()) {
        if let Some(range) = ContentRange::parse(&field) {
            prop_assert!(range.first <= range.last);
            if range.is_rest(first, size) {
                prop_assert_eq!((range.first, range.last), (first, size - 1));
            }
        }
    }

    #[test]
    fn r14_no_retry_after_panics(field in "[0-9]{0,30}|[A-Za-z]{3}, [0-9]{1,2} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{0,9} (GMT|[+-][0-9]{0,5})|\\PC{0,80}") {
        parse_retry_after(&field, SystemTime::now());
    }
}
