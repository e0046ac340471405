//! Texts with placeholders: `product:{id}`.

use crate::Error;

/// A text in which `{name}` stands for a value, and `{{` and `}}` for braces.
pub(crate) struct Template(Vec<Piece>);

enum Piece {
    Text(String),
    Value(String),
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::InvalidRules(format!("`{text}` {what}")));
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            match next {
                '{' | '}' if rest.peek() == Some(&next) => {
                    rest.next();
                    literal.push(next);
                }
                '}' => return wrong("closes a brace that is not open; write `}}` for one"),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some(next) if next != '{' => name.push(next),
                            _ => {
                                return wrong("has a brace that is not closed; write `{{` for one");
                            }
                        }
                    }
                    if name.is_empty() {
                        return wrong("has a placeholder without a name");
                    }
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Value(name));
                }
                other => literal.push(other),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// Puts values in, each changed by `escape` first.
    pub(crate) fn fill(
        &self,
        values: &[(&str, &str)],
        escape: impl Fn(&str) -> String,
    ) -> Result<String, Error> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(name) => {
                    let value = values.iter().find(|(known, _)| known == name);
                    let (_, value) = value.ok_or_else(|| Error::MissingValue(name.clone()))?;
                    out.push_str(&escape(value));
                }
            }
        }
        Ok(out)
    }

    /// The text with nothing in the place of values: it has the shape of every other.
    pub(crate) fn empty(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(_) => String::new(),
        };
        self.0.iter().map(text).collect()
    }
}

/// Makes a value mean itself in a pattern.
pub(crate) fn literally(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for next in value.chars() {
        if matches!(next, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(next);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, Error> {
        Template::parse(text)?.fill(&[("id", "7*"), ("shop", "{a}")], str::to_owned)
    }

    #[test]
    fn values_take_the_place_of_their_names() {
        for (text, expected) in [
            ("", ""),
            ("product:{id}", "product:7*"),
            ("{shop}{id}{id}", "{a}7*7*"),
            ("{{id}}", "{id}"),
            ("{{{id}}}", "{7*}"),
        ] {
            assert_eq!(filled(text).unwrap(), expected, "{text}");
        }
        assert!(matches!(filled("{other}"), Err(Error::MissingValue(name)) if name == "other"));
    }

    #[test]
    fn braces_that_do_not_fit_are_refused() {
        for text in ["{", "}", "a{b", "a}b", "{}", "{a{b}}", "{a}}"] {
            assert!(matches!(Template::parse(text), Err(Error::InvalidRules(_))), "{text}");
        }
    }

    #[test]
    fn in_a_pattern_a_value_means_itself() {
        assert_eq!(literally(r"a*?[]\é"), r"a\*\?\[\]\\é");
    }
}
