//! What is to be invalidated when something changes, as data.

pub(crate) mod apply;
mod template;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use redbrick_core_conn::Pattern;

use crate::{Error, rules::template::Template, settings::check};

pub use apply::Applied;

/// What happened to an entity.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// It is new.
    Create,
    /// It is not as it was.
    Update,
    /// It is gone.
    Delete,
}

/// What one rule invalidates.
///
/// In keys, tags and patterns `{name}` stands for a value that [`Cache::apply`](crate::Cache::apply) is given, and `{{` and
/// `}}` for braces. In a pattern a value means itself, whatever it holds.
#[derive(Clone)]
pub struct Target(pub(crate) What);

#[derive(Clone)]
pub(crate) enum What {
    Key(String),
    Tag(String),
    Pattern(String),
    Shorten(String, Duration),
    Cascade(String, Change),
    Custom(Arc<dyn Rule>),
}

/// A rule of your own: decides at the moment of a change what else is to be invalidated.
///
/// ```
/// use redbrick_cache::{Change, Rule, Target};
///
/// struct Neighbors;
///
/// impl Rule for Neighbors {
///     fn targets(&self, _entity: &str, _change: Change, values: &[(&str, &str)]) -> Vec<Target> {
///         let id = values.iter().find(|(name, _)| *name == "id").and_then(|(_, id)| id.parse::<u64>().ok());
///         id.map(|id| Target::key(format!("page:{}", id / 10))).into_iter().collect()
///     }
/// }
/// ```
pub trait Rule: Send + Sync + 'static {
    /// Returns what is to be invalidated, given what [`Cache::apply`](crate::Cache::apply) was.
    fn targets(&self, entity: &str, change: Change, values: &[(&str, &str)]) -> Vec<Target>;
}

/// Which [targets](Target) a change of which entity has. Made by [`Rules::builder`]; cheap to clone.
#[derive(Clone, Default)]
pub struct Rules(Arc<HashMap<(String, Change), Vec<Target>>>);

/// [`Rules`] that are being put together.
#[derive(Default)]
#[must_use = "nothing is checked until `build` is called"]
pub struct RulesBuilder(HashMap<(String, Change), Vec<Target>>);

/// What of a rule is to be done.
pub(crate) enum Parsed {
    Key(Template),
    Tag(Template),
    Pattern(Template),
    Shorten(Template, Duration),
}

impl Target {
    /// The entry of a key.
    #[must_use]
    pub fn key(key: impl Into<String>) -> Self {
        Self(What::Key(key.into()))
    }

    /// The entries with a tag.
    #[must_use]
    pub fn tag(tag: impl Into<String>) -> Self {
        Self(What::Tag(tag.into()))
    }

    /// The entries whose keys match a pattern, as [`Cache::clear`](crate::Cache::clear) takes it: a walk.
    #[must_use]
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self(What::Pattern(pattern.into()))
    }

    /// The entry of a key, which may go on for at most so long, and is served no longer than it is fresh: for what may be a little
    /// out of date. What is past its time already is over at once.
    #[must_use]
    pub fn shorten(key: impl Into<String>, time_to_live: Duration) -> Self {
        Self(What::Shorten(key.into(), time_to_live))
    }

    /// Whatever a change of another entity has as targets, with the same values. Circles are followed once.
    #[must_use]
    pub fn cascade(entity: impl Into<String>, change: Change) -> Self {
        Self(What::Cascade(entity.into(), change))
    }

    /// Whatever a rule of yours says.
    #[must_use]
    pub fn custom(rule: impl Rule) -> Self {
        Self(What::Custom(Arc::new(rule)))
    }

    /// Reads what is a text; nothing for what leads to other targets.
    pub(crate) fn parse(&self) -> Result<Option<Parsed>, Error> {
        Ok(Some(match &self.0 {
            What::Key(key) => Parsed::Key(Template::parse(key)?),
            What::Tag(tag) => Parsed::Tag(Template::parse(tag)?),
            What::Pattern(text) => {
                let template = Template::parse(text)?;
                if let Err(error) = Pattern::new(&template.empty()) {
                    return Err(Error::InvalidRules(format!("`{text}` is no pattern: {error}")));
                }
                Parsed::Pattern(template)
            }
            What::Shorten(key, time_to_live) => {
                Parsed::Shorten(Template::parse(key)?, check(*time_to_live)?)
            }
            What::Cascade(..) | What::Custom(_) => return Ok(None),
        }))
    }
}

impl Rules {
    /// Begins without a rule.
    pub fn builder() -> RulesBuilder {
        RulesBuilder::default()
    }

    pub(crate) fn of(&self, entity: &str, change: Change) -> &[Target] {
        self.0.get(&(entity.to_owned(), change)).map_or(&[], Vec::as_slice)
    }
}

impl RulesBuilder {
    /// Adds what a change of an entity invalidates.
    pub fn on(
        mut self,
        entity: impl Into<String>,
        change: Change,
        targets: impl IntoIterator<Item = Target>,
    ) -> Self {
        self.0.entry((entity.into(), change)).or_default().extend(targets);
        self
    }

    /// Makes the rules.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRules`] for braces that do not fit, a wrong pattern, or a cascade to what no rule is about, which it
    /// quotes; [`Error::InvalidDuration`].
    pub fn build(self) -> Result<Rules, Error> {
        for target in self.0.values().flatten() {
            target.parse()?;
            if let What::Cascade(entity, change) = &target.0
                && !self.0.contains_key(&(entity.clone(), *change))
            {
                let what =
                    format!("a cascade leads to `{entity}` {change:?}, and no rule is about it");
                return Err(Error::InvalidRules(what));
            }
        }
        Ok(Rules(Arc::new(self.0)))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Key(key) => f.debug_tuple("Key").field(key).finish(),
            What::Tag(tag) => f.debug_tuple("Tag").field(tag).finish(),
            What::Pattern(text) => f.debug_tuple("Pattern").field(text).finish(),
            What::Shorten(key, time) => f.debug_tuple("Shorten").field(key).field(time).finish(),
            What::Cascade(to, change) => f.debug_tuple("Cascade").field(to).field(change).finish(),
            What::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}

impl fmt::Debug for RulesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}
