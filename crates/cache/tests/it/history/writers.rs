//! Those who change keys, each its own ones, and invalidate them.

#![expect(clippy::unwrap_used, reason = "a part of the test")]

use std::{sync::Arc, time::Duration};

use redbrick_cache::{Change, Error, Rules, Target};
use redbrick_core_conn::Ttl;

use super::{
    database::{FAMILIES, Place, SHARED, Value, Who},
    fleet::PROCESSES,
    member::{LEASE, Member, WRITERS, millis},
};

/// How one of its families is chosen; the first is the one about which most is asked.
const BUSY: u32 = 3;

/// What life an entry is left that is shortened.
const SHORTENED: Duration = Duration::from_millis(60);
/// How often it is looked whether it has ended, and when again.
const LOOKS: u32 = 30;
const LOOK: Duration = Duration::from_millis(10);

/// How keys are invalidated.
#[derive(Clone, Copy, Debug)]
enum Way {
    ApplyFamily,
    ApplyKey,
    Clear,
    Delete,
    DeleteMany,
    Set,
    SetMany,
    Shared,
    Shorten,
    Tag,
    Tags,
}

/// All ways, some more often than others.
const WAYS: [Way; 20] = [
    Way::ApplyFamily,
    Way::ApplyKey,
    Way::Clear,
    Way::Delete,
    Way::Delete,
    Way::Delete,
    Way::DeleteMany,
    Way::Set,
    Way::Set,
    Way::Set,
    Way::SetMany,
    Way::Shared,
    Way::Shorten,
    Way::Shorten,
    Way::Shorten,
    // From here on for keys with tags alone.
    Way::Tag,
    Way::Tag,
    Way::Tag,
    Way::Tags,
    Way::Tags,
];
const TAGLESS: usize = 15;

/// The families of a writer.
pub(super) fn families(process: u64, writer: u64) -> Vec<u64> {
    let is_its = |family: &u64| *family % (PROCESSES * WRITERS) == process * WRITERS + writer;
    (0..FAMILIES).filter(is_its).collect()
}

pub(super) async fn run(member: Arc<Member>, mut chance: fastrand::Rng, families: Vec<u64>) {
    let rules = Rules::builder().on("key", Change::Update, [Target::key("{id}")]);
    let rules = rules.on("family", Change::Update, [Target::pattern("{id}:*")]);
    let rules = rules.on("age", Change::Update, [Target::shorten("{id}", SHORTENED)]);
    let rules = rules.on("family", Change::Delete, [Target::tag("family {id}")]).build().unwrap();
    while member.goes_on() {
        crate::rest(millis(&mut chance, 2..16)).await;
        let family = match chance.u32(..BUSY) {
            0 => families[chance.usize(..families.len())],
            _ => families[0],
        };
        write(&member, &mut chance, family, &rules).await;
    }
}

/// Changes keys of a family, invalidates them, and writes that down.
async fn write(member: &Member, chance: &mut fastrand::Rng, family: u64, rules: &Rules) {
    let one = Place::of(family, chance);
    let way = WAYS[chance.usize(..if one.tag().is_some() { WAYS.len() } else { TAGLESS })];
    let mut places = one.siblings();
    match way {
        Way::ApplyKey | Way::Delete | Way::Set | Way::Shorten => places = vec![one],
        Way::DeleteMany | Way::SetMany | Way::Shared => places.retain(|_| chance.bool()),
        Way::ApplyFamily | Way::Clear | Way::Tag | Way::Tags => {}
    }
    let changed = member.database.change(&places).await;
    match invalidate(member, chance, way, one, &changed, rules).await {
        Ok(Some(who)) => member.changed(who, &changed).await,
        // Whether it was done is not known, and nobody relies on it.
        Ok(None) => {}
        Err(error) => member.failed(&error),
    }
}

/// Returns who must see the change.
async fn invalidate(
    member: &Member,
    chance: &mut fastrand::Rng,
    way: Way,
    one: Place,
    changed: &[Value],
    rules: &Rules,
) -> Result<Option<Who>, Error> {
    let (cache, id, family) = (member.cache(one), one.id(), one.family.to_string());
    let ids = changed.iter().map(|(id, _)| id);
    let shared = chance.bool().then(|| SHARED.to_owned());
    // An entry has the tag of its family, or else no invalidation of that concerns it.
    let tags: Vec<_> = one.tag().into_iter().chain(shared).collect();
    let (name, done) = match way {
        Way::ApplyFamily => {
            let change = if one.tag().is_some() { Change::Delete } else { Change::Update };
            let applied = cache.apply(rules, "family", change, &[("id", &family)]).await;
            ("apply", applied.map(drop))
        }
        Way::ApplyKey => {
            let applied = cache.apply(rules, "key", Change::Update, &[("id", &id)]).await;
            ("apply", applied.map(drop))
        }
        Way::Clear => ("clear", cache.clear([format!("{family}:*")]).await.map(drop)),
        Way::Delete => ("delete", cache.delete(id).await.map(drop)),
        Way::DeleteMany => ("delete_many", cache.delete_many(ids).await.map(drop)),
        Way::Set => {
            let life = millis(chance, 20..400);
            ("set", cache.set(id, &changed[0]).time_to_live(life).tags(tags).await)
        }
        Way::SetMany => {
            let entries = changed.iter().map(|value| (&value.0, value));
            ("set_many", cache.set_many(entries).tags(tags).await)
        }
        Way::Shared => ("invalidate_tag", cache.invalidate_tag(SHARED).await.map(drop)),
        Way::Shorten => {
            let applied = cache.apply(rules, "age", Change::Update, &[("id", &id)]).await;
            ("shorten", applied.map(drop))
        }
        Way::Tag => ("invalidate_tag", cache.invalidate_tag(&tags[0]).await.map(drop)),
        Way::Tags => ("invalidate_tags", cache.invalidate_tags(&tags).await.map(drop)),
    };
    member.add(name);
    done?;
    Ok(match way {
        Way::Shared => Some(Who::NamesShared),
        Way::Shorten => ends(member, one, changed[0].1).await?.then_some(Who::All),
        _ => Some(Who::All),
    })
}

/// Whether what was there has ended, which is not said by any clock: nothing is there, or what is newer. It may be kept for longer
/// where it is being loaded anew; what has a longer life than that was stored since, and has to be newer.
async fn ends(member: &Member, place: Place, count: u64) -> Result<bool, Error> {
    let (cache, id) = (member.cache(place), place.id());
    for _ in 0..LOOKS {
        let left = cache.ttl(&id).await?;
        // What has that life may be kept here in an older form.
        member.catch_up().await;
        let there = cache.get(&id).await?;
        if left == Ttl::Missing || there.as_ref().is_some_and(|there| there.1 >= count) {
            return Ok(true);
        }
        if let (Ttl::Expires(left), Some(there)) = (left, &there)
            && left > SHORTENED + LEASE
        {
            member.check("a look after a shorten", place, count, there).await;
        }
        crate::rest(LOOK).await;
    }
    Ok(false)
}
