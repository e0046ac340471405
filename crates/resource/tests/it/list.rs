use redbrick_core_conn::Codec;
use redbrick_resource::{Error, Page, Resource};
use serde_json::json;

use crate::{User, connect, size, state, user, users};

fn ids(page: &Page<User>) -> Vec<&str> {
    page.items.iter().map(|user| &*user.id).collect()
}

#[tokio::test]
async fn pages_are_in_the_order_of_creation_and_stay_so() {
    let users = users("pages").await;
    // Not in the order of their ids.
    for n in (0..25).rev() {
        users.create(&user(format!("u{n:02}"))).await.unwrap();
    }
    users.save(&User { age: 1, ..user("u03") }).await.unwrap();
    users.update("u24", &json!({"city": "Oslo"})).await.unwrap();

    let first = users.list().await.unwrap();
    assert_eq!((first.page, first.size.get(), first.total, first.pages()), (0, 10, 25, 3));
    assert_eq!(ids(&first)[..2], ["u24", "u23"]);
    let mut seen: Vec<String> = Vec::new();
    for page in 0..4 {
        let page = users.list().page(page).await.unwrap();
        seen.extend(ids(&page).into_iter().map(str::to_owned));
    }
    let all: Vec<String> = (0..25).rev().map(|n| format!("u{n:02}")).collect();
    assert_eq!(seen, all);
    assert_eq!(
        ids(&users.list().size(size(7)).page(3).await.unwrap()),
        ["u03", "u02", "u01", "u00"]
    );
}

#[tokio::test]
async fn criteria_choose_records_in_the_same_order() {
    let users = users("criteria").await;
    for (n, third) in (0..30_u32).zip((0..3).cycle()).collect::<Vec<_>>().into_iter().rev() {
        let city = Some(["Rome", "Oslo", "Bonn"][third].to_owned());
        users.create(&User { city, age: n % 2, ..user(format!("u{n:02}")) }).await.unwrap();
    }

    let rome = users.list().where_eq("city", "Rome").size(size(4)).page(1).await.unwrap();
    assert_eq!(rome.total, 10);
    assert_eq!(ids(&rome), ["u15", "u12", "u09", "u06"]);
    let even = users.list().where_eq("city", "Rome").where_eq("age", &0_u64).size(size(3));
    let even = even.page(1).await.unwrap();
    assert_eq!((even.total, ids(&even)), (5, vec!["u06", "u00"]));
    let one = users.list().where_eq("email", "u07@example.com").where_eq("age", &1).await.unwrap();
    assert_eq!((one.total, ids(&one)), (1, vec!["u07"]));
    let one = users.list().where_eq("email", "u07@example.com").await.unwrap();
    assert_eq!((one.total, ids(&one)), (1, vec!["u07"]));
    for (city, email, age) in [("Rome", "u07@example.com", 1), ("Oslo", "nobody", 1)] {
        let criteria = users.list().where_eq("city", city).where_eq("email", email);
        let none = criteria.where_eq("age", &age).await.unwrap();
        assert_eq!((none.total, none.items.len()), (0, 0));
    }
    assert_eq!(users.list().where_eq("city", "Rom").await.unwrap().total, 0);
    assert_eq!(users.list().where_eq("city", "").await.unwrap().total, 0);
}

#[tokio::test]
async fn a_record_moves_with_its_value() {
    let users = users("moves").await;
    users.create(&user("ada")).await.unwrap();
    users.update("ada", &json!({"city": "Oslo"})).await.unwrap();
    assert_eq!(users.list().where_eq("city", "Rome").await.unwrap().total, 0);
    assert_eq!(users.list().where_eq("city", "Oslo").await.unwrap().total, 1);
    users.delete("ada").await.unwrap();
    assert_eq!(users.list().where_eq("city", "Oslo").await.unwrap().total, 0);
}

#[tokio::test]
async fn a_field_without_an_index_and_no_value_are_unsupported() {
    let users = users("not_indexed").await;
    let refused = users.list().where_eq("nick", "x").await.unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused:?}");
    let refused = users.list().where_eq("city", &None::<u8>).where_eq("age", &1).await.unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused:?}");
}

#[tokio::test]
async fn an_unreadable_record_is_named_and_fails_no_page() {
    let users = users("unreadable").await;
    for id in ["a", "b", "c", "d"] {
        users.create(&user(id)).await.unwrap();
    }
    let plain = users.conn().with_codec(Codec::Plain);
    plain.hash(users.key("b")).set("age", "garbage").await.unwrap();
    plain.delete(users.key("c")).await.unwrap();
    plain.set(users.key("c"), "a text").await.unwrap();

    let page = users.list().await.unwrap();

    assert_eq!(ids(&page), ["a", "d"]);
    assert_eq!((page.total, page.unreadable), (4, vec!["b".to_owned(), "c".to_owned()]));
}

#[tokio::test]
async fn what_finds_a_record_gone_by_another_hand_goes_when_it_is_listed() {
    let users = users("evicted").await;
    for id in ["a", "b", "c"] {
        users.create(&user(id)).await.unwrap();
    }
    users.conn().delete(users.key("b")).await.unwrap();

    assert_eq!(ids(&users.list().await.unwrap()), ["a", "c"]);
    assert_eq!(users.list().await.unwrap().total, 2);
    assert_eq!(state::check(&users).await, 2);
}

#[tokio::test]
async fn a_page_may_be_larger_than_what_one_script_reads() {
    let resource = Resource::<User>::builder(connect("large_page").await).page_size(size(2_000));
    let users = resource.build();
    let conn = users.conn().clone();
    let creating = (0..1_100).map(|n| {
        let users = Resource::<User>::new(conn.clone());
        tokio::spawn(async move { users.create(&user(n)).await.unwrap() })
    });
    for created in creating.collect::<Vec<_>>() {
        created.await.unwrap();
    }
    let page = users.list().await.unwrap();
    assert_eq!((page.items.len(), page.total, page.size.get()), (1_100, 1_100, 2_000));
}

#[tokio::test]
async fn a_record_that_went_by_another_hand_is_a_new_one_when_it_is_created_again() {
    let users = users("new_one").await;
    users.create(&user("a")).await.unwrap();
    users.create(&user("b")).await.unwrap();
    users.conn().delete(users.key("a")).await.unwrap();
    users.create(&user("a")).await.unwrap();

    assert_eq!(ids(&users.list().await.unwrap()), ["b", "a"]);
    assert_eq!(state::check(&users).await, 2);
}
