//! Doing what rules say.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use redbrick_core_conn::{Key, Replay, Script};

use crate::{
    Cache, Change, Error, Rules, Target,
    owed::{About, Underway},
    rules::template::literally,
    rules::{Parsed, What},
    tags::{self, IN_A_PIPELINE},
};

static SHORTEN: Script = Script::new("cache.shorten", include_str!("../lua/shorten.lua"));

/// How many targets a change may have, cascades included.
const MOST_TARGETS: usize = 10_000;

/// What came of [`Cache::apply`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// Entries that were deleted by their key.
    pub deleted: u64,
    /// Tags that were in use and are invalidated.
    pub tags: u64,
    /// Entries that were deleted by a pattern.
    pub cleared: u64,
    /// Entries that are there and have at most the life of their rule by now.
    pub shortened: u64,
}

/// What a change comes to, each thing once.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) keys: BTreeSet<Vec<u8>>,
    pub(crate) tags: BTreeSet<Vec<u8>>,
    pub(crate) patterns: BTreeSet<String>,
    pub(crate) shortened: BTreeMap<String, Duration>,
}

impl<V> Cache<V> {
    /// Invalidates what `rules` say of this change, with `values` in the place of their placeholders. A change that no rule is
    /// about invalidates nothing.
    ///
    /// One round trip for the tags, one for each 256 lives that are shortened, one for the keys, and the walks of
    /// [`clear`](Self::clear) for each pattern, in this order.
    ///
    /// # Errors
    ///
    /// [`Error::MissingValue`], [`Error::InvalidRules`] by a target of a custom rule, and [`Error::EndlessRules`], all before
    /// anything is sent; [`Error::Conn`] when some of it may be done: calling it again does the rest.
    #[tracing::instrument(level = "debug", name = "cache.apply", skip_all)]
    pub async fn apply(
        &self,
        rules: &Rules,
        entity: &str,
        change: Change,
        values: &[(&str, &str)],
    ) -> Result<Applied, Error> {
        self.carry_out(&plan(rules, entity, change, values)?).await
    }

    pub(crate) async fn carry_out(&self, plan: &Plan) -> Result<Applied, Error> {
        let inner = &self.inner;
        let patterns = plan.patterns.iter().map(|text| inner.pattern(text));
        let patterns = patterns.collect::<Result<Vec<_>, _>>()?;
        let shortened = plan.shortened.keys().map(String::as_bytes);
        let ids = plan.keys.iter().map(Vec::as_slice).chain(shortened);
        let entries: Vec<Key> = ids.map(|id| inner.prefix.tagged(id)).collect();
        let tags = tags::named(&plan.tags);
        // What comes after a failure is owed as well.
        let about = [About::Tags(&tags), About::Entries(&entries)];
        let about = about.into_iter().chain(patterns.iter().map(About::Pattern));
        let underway: Vec<_> = about.map(|about| Underway::new(inner, about)).collect();
        let mut applied = Applied::default();
        if !plan.tags.is_empty() {
            applied.tags = Box::pin(self.invalidate_tags(&tags)).await?;
        }
        applied.shortened = Box::pin(self.shorten(&plan.shortened)).await?;
        if !plan.keys.is_empty() {
            applied.deleted = Box::pin(self.delete_many(&plan.keys)).await?;
        }
        for entries in &patterns {
            applied.cleared += Box::pin(inner.clear(entries.clone())).await?;
        }
        underway.into_iter().for_each(Underway::done);
        Ok(applied)
    }

    /// Lets entries expire sooner; returns how many are there.
    async fn shorten(&self, lives: &BTreeMap<String, Duration>) -> Result<u64, Error> {
        let inner = &*self.inner;
        let lives: Vec<_> =
            lives.iter().map(|(id, life)| (inner.prefix.tagged(id), *life)).collect();
        let mut shortened = 0;
        for some in lives.chunks(IN_A_PIPELINE) {
            let mut pipeline = inner.conn.pipeline();
            let calls = some.iter().map(|(entry, life)| {
                let mark = fastrand::u64(..).to_be_bytes();
                let call = inner.conn.script(&SHORTEN).key(entry).arg(inner.end_of(entry));
                let call = call.arg(*life).arg(mark.as_slice());
                call.run::<u64>().replay(Replay::Idempotent)
            });
            let tickets: Vec<_> = calls.map(|call| pipeline.add(call)).collect();
            let mut results = Box::pin(pipeline.send()).await;
            for (entry, _) in some {
                inner.flights.detach(entry);
            }
            for ticket in tickets {
                shortened += results.take(ticket)?;
            }
        }
        Ok(shortened)
    }
}

/// Follows the rules to all targets.
fn plan(
    rules: &Rules,
    entity: &str,
    change: Change,
    values: &[(&str, &str)],
) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut visited = HashSet::from([(entity.to_owned(), change)]);
    // What is to be looked at, each with what it is about.
    let of = |entity: &str, change: Change| {
        let targets = rules.of(entity, change).iter().cloned();
        targets.map(|target| (entity.to_owned(), change, target)).collect::<Vec<_>>()
    };
    let mut open: Vec<(String, Change, Target)> = of(entity, change);
    let mut count = 0;
    while let Some((entity, change, target)) = open.pop() {
        count += 1;
        if count > MOST_TARGETS {
            return Err(Error::EndlessRules);
        }
        match &target.0 {
            What::Cascade(to, change) => {
                if visited.insert((to.clone(), *change)) {
                    open.extend(of(to, *change));
                }
            }
            What::Custom(rule) => {
                let more = rule.targets(&entity, change, values).into_iter();
                open.extend(more.map(|target| (entity.clone(), change, target)));
            }
            _ => {
                if let Some(parsed) = target.parse()? {
                    plan.add(&parsed, values)?;
                }
            }
        }
    }
    Ok(plan)
}

impl Plan {
    fn add(&mut self, parsed: &Parsed, values: &[(&str, &str)]) -> Result<(), Error> {
        match parsed {
            Parsed::Key(key) => {
                self.keys.insert(key.fill(values, str::to_owned)?.into_bytes());
            }
            Parsed::Tag(tag) => {
                self.tags.insert(tag.fill(values, str::to_owned)?.into_bytes());
            }
            Parsed::Pattern(pattern) => {
                self.patterns.insert(pattern.fill(values, literally)?);
            }
            Parsed::Shorten(key, life) => {
                let key = key.fill(values, str::to_owned)?;
                let shortest = self.shortened.entry(key).or_insert(*life);
                *shortest = (*shortest).min(*life);
            }
        }
        Ok(())
    }
}
