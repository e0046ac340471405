use std::time::Duration;

use redbrick_cache::{Applied, Change, Error, Rule, Rules, Target};
use redbrick_core_conn::Ttl;

use crate::numbers;

fn counts(applied: Applied) -> [u64; 4] {
    [applied.deleted, applied.tags, applied.cleared, applied.shortened]
}

#[tokio::test]
async fn a_change_invalidates_what_its_rules_say_by_key_tag_pattern_age_and_cascade() {
    let cache = numbers("rules").await;
    let rules = Rules::builder()
        .on(
            "product",
            Change::Update,
            [
                Target::key("product:{id}"),
                Target::tag("category:{category}"),
                Target::pattern("list:{id}:*"),
                Target::cascade("shop", Change::Update),
            ],
        )
        .on(
            "shop",
            Change::Update,
            [
                Target::key("shop"),
                Target::shorten("report:{id}", Duration::from_secs(5)),
                // Back again: a circle is followed once.
                Target::cascade("product", Change::Update),
            ],
        )
        .build()
        .unwrap();
    let keys = ["product:7", "product:8", "list:7:a", "list:7:b", "list:77:a", "shop", "report:7"];
    for key in keys {
        cache.set(key, &1).await.unwrap();
    }
    cache.set("lamp", &1).tags(["category:lamps"]).await.unwrap();

    let values = [("id", "7"), ("category", "lamps"), ("unused", "x")];
    let applied = cache.apply(&rules, "product", Change::Update, &values).await.unwrap();
    assert_eq!(counts(applied), [2, 1, 2, 1]);
    let left = cache.get_many(keys).await.unwrap();
    assert_eq!(left, [None, Some(1), None, None, Some(1), None, Some(1)]);
    assert_eq!(cache.get("lamp").await.unwrap(), None);
    let left = cache.ttl("report:7").await.unwrap();
    assert!(matches!(left, Ttl::Expires(left) if left <= Duration::from_secs(5)), "{left:?}");

    let nothing = cache.apply(&rules, "product", Change::Delete, &values).await.unwrap();
    assert_eq!(nothing, Applied::default());
}

#[tokio::test]
async fn a_life_is_shortened_and_never_made_longer() {
    let cache = numbers("shorten").await;
    let shorten = |seconds| {
        let target = Target::shorten("a", Duration::from_secs(seconds));
        Rules::builder().on("x", Change::Create, [target]).build().unwrap()
    };
    cache.set("a", &1).await.unwrap();
    cache.apply(&shorten(5), "x", Change::Create, &[]).await.unwrap();
    cache.apply(&shorten(500), "x", Change::Create, &[]).await.unwrap();
    let left = cache.ttl("a").await.unwrap();
    assert!(matches!(left, Ttl::Expires(left) if left <= Duration::from_secs(5)), "{left:?}");
}

#[tokio::test]
async fn in_a_pattern_a_value_means_itself() {
    let cache = numbers("literal values").await;
    for key in ["list:*:a", "list:7:a", "list:{id}:a"] {
        cache.set(key, &1).await.unwrap();
    }
    let rules = Rules::builder();
    let rules = rules.on("x", Change::Update, [Target::pattern("list:{id}:*")]).build().unwrap();
    for value in ["*", "{id}"] {
        let applied = cache.apply(&rules, "x", Change::Update, &[("id", value)]).await.unwrap();
        assert_eq!(applied.cleared, 1, "{value}");
    }
    assert_eq!(cache.get("list:7:a").await.unwrap(), Some(1));
}

struct Pages;

impl Rule for Pages {
    fn targets(&self, entity: &str, change: Change, values: &[(&str, &str)]) -> Vec<Target> {
        assert_eq!((entity, change), ("product", Change::Create));
        let id = values.iter().find(|(name, _)| *name == "id").and_then(|(_, id)| id.parse().ok());
        vec![
            Target::key(format!("page:{}", id.unwrap_or(0_u64) / 10)),
            Target::tag("new:{id}"),
            Target::cascade("shop", Change::Update),
        ]
    }
}

struct Endless;

impl Rule for Endless {
    fn targets(&self, _: &str, _: Change, _: &[(&str, &str)]) -> Vec<Target> {
        vec![Target::custom(Self)]
    }
}

#[tokio::test]
async fn a_rule_of_the_users_decides_at_the_moment_of_the_change() {
    let cache = numbers("custom rule").await;
    let rules = Rules::builder()
        .on("product", Change::Create, [Target::custom(Pages)])
        .on("shop", Change::Update, [Target::key("shop")])
        .build()
        .unwrap();
    for key in ["page:4", "page:5", "shop"] {
        cache.set(key, &1).tags(["new:42"]).await.unwrap();
    }
    let applied = cache.apply(&rules, "product", Change::Create, &[("id", "42")]).await.unwrap();
    assert_eq!(counts(applied), [2, 1, 0, 0]);

    let endless = Rules::builder().on("x", Change::Create, [Target::custom(Endless)]);
    let endless = endless.build().unwrap();
    let refused = cache.apply(&endless, "x", Change::Create, &[]).await.unwrap_err();
    assert!(matches!(refused, Error::EndlessRules), "{refused:?}");
}

#[tokio::test]
async fn a_value_that_is_not_given_is_named_and_nothing_is_invalidated() {
    let cache = numbers("missing value").await;
    cache.set("a", &1).await.unwrap();
    let targets = [Target::key("a"), Target::tag("{shop}")];
    let rules = Rules::builder().on("x", Change::Update, targets).build().unwrap();
    let refused = cache.apply(&rules, "x", Change::Update, &[("id", "7")]).await.unwrap_err();
    assert!(matches!(&refused, Error::MissingValue(name) if name == "shop"), "{refused:?}");
    assert_eq!(cache.get("a").await.unwrap(), Some(1));
}

#[test]
fn rules_that_cannot_work_are_refused_when_they_are_built() {
    for wrong in [
        Target::key("a{"),
        Target::tag("a}b"),
        Target::pattern("list:{id}:?"),
        Target::pattern("{}"),
        Target::cascade("nobody", Change::Update),
    ] {
        let refused = Rules::builder().on("x", Change::Update, [wrong]).build().unwrap_err();
        assert!(matches!(refused, Error::InvalidRules(_)), "{refused:?}");
        assert!(!refused.is_retryable());
    }
    let wrong = Target::shorten("a", Duration::ZERO);
    let refused = Rules::builder().on("x", Change::Update, [wrong]).build().unwrap_err();
    assert!(matches!(refused, Error::InvalidDuration), "{refused:?}");
}
