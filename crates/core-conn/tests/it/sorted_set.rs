//! Sorted sets.

use std::ops::Bound;

use redbrick_core_conn::{Codec, Conn, ErrorKind};

use crate::{assert_wrong_type, connect, cost, server};

fn named(members: &[(&str, f64)]) -> Vec<(String, f64)> {
    members.iter().map(|(member, score)| ((*member).to_owned(), *score)).collect()
}

#[tokio::test]
async fn members_are_in_the_order_of_their_scores() {
    let conn = connect("sorted").await;
    let set = conn.sorted_set("s");
    assert_eq!(set.range::<String>(..).await.unwrap(), []);
    assert_eq!(set.score("a").await.unwrap(), None);
    assert!(set.add("b", 2.0).await.unwrap() && set.add("a", 1.5).await.unwrap());
    assert!(!set.add("a", 1.0).await.unwrap(), "not new");
    assert_eq!(set.increment("c", 3.0).await.unwrap(), 3.0);
    assert_eq!(set.increment("a", -0.5).await.unwrap(), 0.5);
    assert_eq!(set.score("a").await.unwrap(), Some(0.5));
    assert_eq!(set.len().await.unwrap(), 3);
    assert_eq!(set.range(..).await.unwrap(), named(&[("a", 0.5), ("b", 2.0), ("c", 3.0)]));
    assert_eq!(set.range(-1..).await.unwrap(), named(&[("c", 3.0)]));
    assert_eq!(set.range(1..2).await.unwrap(), named(&[("b", 2.0)]));
    for nothing in [(Bound::Unbounded, Bound::Excluded(0)), (Bound::Excluded(-1), Bound::Unbounded)]
    {
        assert_eq!(set.range::<String>(nothing).await.unwrap(), []);
    }
    assert!(set.remove("a").await.unwrap() && !set.remove("a").await.unwrap());
    assert_eq!(set.len().await.unwrap(), 2);

    assert_eq!(set.extend([("d", 9.0), ("b", 8.0), ("e", 1.0)]).await.unwrap(), 2, "b is not new");
    assert_eq!(set.highest(2).await.unwrap(), named(&[("d", 9.0), ("b", 8.0)]));
    assert_eq!(set.highest::<String>(u32::MAX).await.unwrap().len(), 4);
    assert_eq!(set.highest::<String>(0).await.unwrap(), []);
    assert_eq!(set.remove_many(["d", "b", "x"]).await.unwrap(), 2);
    assert_eq!(set.extend::<u8>([]).await.unwrap() + set.remove_many::<u8>([]).await.unwrap(), 0);
    let err = set.extend([("a", 1.0), ("b", f64::NAN)]).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
    assert_eq!(set.range(..).await.unwrap(), named(&[("e", 1.0), ("c", 3.0)]));
}

#[tokio::test]
async fn scores_of_any_size_come_back_as_they_were() {
    let conn = connect("sorted-scores").await;
    let set = conn.sorted_set("s");
    let scores = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1e308,
        -0.1,
        -5e-324,
        0.0,
        5e-324,
        f64::MIN_POSITIVE,
        0.1 + 0.2,
        9_007_199_254_740_993.0,
        1e17,
        1e308,
        f64::MAX,
        f64::INFINITY,
    ];
    for score in scores {
        let member = score.to_string();
        assert!(set.add(&member, score).await.unwrap(), "{score}");
        assert_eq!(set.score(&member).await.unwrap(), Some(score));
        // By its score and by nothing else it is found.
        assert_eq!(set.range_by_score(score..=score).await.unwrap(), [(member.clone(), score)]);
        let copy = conn.sorted_set(format!("copy {score}"));
        assert_eq!(copy.increment(&member, score).await.unwrap(), score);
    }
    let all = set.range::<String>(..).await.unwrap();
    assert_eq!(all.into_iter().map(|(_, score)| score).collect::<Vec<_>>(), scores);

    set.add("minus zero", -0.0).await.unwrap();
    assert_eq!(set.range_by_score::<String>(-0.0..=0.0).await.unwrap().len(), 2);
    for score in scores {
        let removed = set.remove_by_score(score..=score).await.unwrap();
        assert_eq!(removed, if score == 0.0 { 2 } else { 1 }, "{score}");
    }
}

#[tokio::test]
async fn ranges_of_scores_leave_out_what_they_exclude() {
    let conn = connect("sorted-ranges").await;
    let fill = async |key: String| {
        let set = conn.sorted_set(key);
        for n in 0..5_u8 {
            set.add(&n, f64::from(n)).await.unwrap();
        }
        set.add(&5, f64::INFINITY).await.unwrap();
        set
    };
    for (range, expected) in [
        ((Bound::Unbounded, Bound::Unbounded), [0, 1, 2, 3, 4, 5].as_slice()),
        ((Bound::Included(1.0), Bound::Excluded(3.0)), &[1, 2]),
        ((Bound::Excluded(1.0), Bound::Included(3.0)), &[2, 3]),
        ((Bound::Excluded(0.5), Bound::Unbounded), &[1, 2, 3, 4, 5]),
        ((Bound::Unbounded, Bound::Excluded(f64::INFINITY)), &[0, 1, 2, 3, 4]),
        ((Bound::Excluded(f64::NEG_INFINITY), Bound::Excluded(0.5)), &[0]),
        ((Bound::Included(f64::INFINITY), Bound::Unbounded), &[5]),
        ((Bound::Excluded(f64::INFINITY), Bound::Unbounded), &[]),
        ((Bound::Included(3.0), Bound::Included(1.0)), &[]),
        ((Bound::Excluded(2.0), Bound::Excluded(2.0)), &[]),
        ((Bound::Included(2.5), Bound::Included(2.6)), &[]),
    ] {
        let set = fill(format!("{range:?}")).await;
        let found = set.range_by_score::<u8>(range).await.unwrap();
        assert_eq!(found.iter().map(|(n, _)| *n).collect::<Vec<_>>(), expected, "{range:?}");
        assert_eq!(set.remove_by_score(range).await.unwrap(), found.len() as u64, "{range:?}");
        assert_eq!(set.len().await.unwrap(), 6 - found.len() as u64);
    }
}

#[tokio::test]
async fn what_is_no_number_is_no_score() {
    let conn = connect("sorted-nan").await;
    let set = conn.sorted_set("s");
    let nan = f64::NAN;
    for err in [
        set.add("a", nan).await.unwrap_err(),
        set.increment("a", nan).await.unwrap_err(),
        set.range_by_score::<u8>(nan..).await.unwrap_err(),
        set.range_by_score::<u8>(..=nan).await.unwrap_err(),
        set.remove_by_score(nan..).await.unwrap_err(),
        set.remove_by_score(..nan).await.unwrap_err(),
    ] {
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
    }
    set.add("a", f64::INFINITY).await.unwrap();
    let err = set.increment("a", f64::NEG_INFINITY).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
    assert_eq!(set.score("a").await.unwrap(), Some(f64::INFINITY), "unchanged");
}

#[tokio::test]
async fn another_type_and_another_shape_are_errors_and_nothing_is_changed() {
    let conn = connect("sorted-wrong").await;
    conn.set("k", "text").await.unwrap();
    let set = conn.sorted_set("k");
    assert_wrong_type!(
        set.add(&1, 1.0),
        set.increment(&1, 1.0),
        set.remove(&1),
        set.score(&1),
        set.range::<u8>(..),
        set.range_by_score::<u8>(..),
        set.remove_by_score(..),
        set.len(),
    );
    assert_eq!(conn.get::<String>("k").await.unwrap().as_deref(), Some("text"));

    let set = conn.sorted_set("s");
    set.add("text", 1.0).await.unwrap();
    assert_eq!(set.range::<u8>(..).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(set.range_by_score::<u8>(..).await.unwrap_err().kind(), ErrorKind::Codec);
    let json = conn.with_codec(Codec::Json);
    let unnamed = std::collections::BTreeMap::from([(vec![1], 1)]);
    assert_eq!(json.sorted_set("s").add(&unnamed, 1.0).await.unwrap_err().kind(), ErrorKind::Codec);
    assert_eq!(set.len().await.unwrap(), 1);
}

#[tokio::test]
async fn every_call_costs_one_round_trip() {
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let set = conn.sorted_set("s");
    set.range::<u8>(..).await.unwrap();
    let used = cost(&server, async {
        set.add(&1, 1.0).await.unwrap();
        set.increment(&1, 1.0).await.unwrap();
        set.score(&1).await.unwrap();
        set.range::<u8>(..).await.unwrap();
        set.range::<u8>(..0).await.unwrap();
        set.range_by_score::<u8>(..).await.unwrap();
        set.len().await.unwrap();
        set.remove(&1).await.unwrap();
        set.remove_by_score(..).await.unwrap();
    });
    let expected = "evalsha 2, zadd 1, zcard 1, zincrby 1, zrange 1, zrangebyscore 1, zrem 1, \
                    zremrangebyscore 1, zscore 1";
    assert_eq!(used.await, expected);
}
