//! Prefixes as a server takes them: none of them begins with another.

use bytes::Bytes;

/// The fewest prefixes that cover all keys that somebody wants to hear of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Cover(Vec<Bytes>);

impl Cover {
    pub(super) fn of(prefixes: impl IntoIterator<Item = Bytes>) -> Self {
        let mut sorted: Vec<Bytes> = prefixes.into_iter().collect();
        sorted.sort_unstable();
        let mut kept: Vec<Bytes> = Vec::with_capacity(sorted.len());
        for prefix in sorted {
            // Whatever begins with a prefix comes right behind it.
            if kept.last().is_none_or(|before| !prefix.starts_with(before)) {
                kept.push(prefix);
            }
        }
        Self(kept)
    }

    /// Whether every key that `other` covers is covered.
    pub(super) fn includes(&self, other: &Self) -> bool {
        other.0.iter().all(|prefix| self.0.iter().any(|own| prefix.starts_with(own)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cover(prefixes: &[&'static str]) -> Cover {
        Cover::of(prefixes.iter().map(|prefix| Bytes::from_static(prefix.as_bytes())))
    }

    #[test]
    fn none_begins_with_another_and_all_are_covered() {
        assert_eq!(cover(&["b", "ab", "abc", "a:", "b", "abd"]), cover(&["a:", "ab", "b"]));
        assert_eq!(cover(&["x", ""]), cover(&[""]));
        assert_eq!(cover(&["a\u{7f}", "a", "a\0"]), cover(&["a"]));
        assert!(cover(&[]).is_empty());
    }

    #[test]
    fn a_cover_includes_what_begins_with_one_of_its_prefixes() {
        let wide = cover(&["a", "b:"]);
        assert!(wide.includes(&wide) && wide.includes(&cover(&["ab", "b:c"])));
        assert!(wide.includes(&cover(&[])) && cover(&[""]).includes(&wide));
        assert!(!wide.includes(&cover(&["b"])) && !wide.includes(&cover(&["a", "c"])));
    }
}
