use redbrick_resource::Error;
use serde_json::json;

use crate::{User, state, user, users};

#[tokio::test]
async fn a_record_is_found_by_a_unique_value_and_by_the_last_one_only() {
    let users = users("by_unique").await;
    users.create(&user("ada")).await.unwrap();

    assert_eq!(users.get_by("email", "ada@example.com").await.unwrap(), user("ada"));
    let renamed = users.update("ada", &json!({"email": "a@b"})).await.unwrap();
    assert_eq!(users.load_by("email", "ada@example.com").await.unwrap(), None);
    assert_eq!(users.get_by("email", &Some("a@b")).await.unwrap(), renamed);
    let unknown = users.get_by("email", "ada@example.com").await.unwrap_err();
    assert!(matches!(unknown, Error::Unknown), "{unknown:?}");
    assert_eq!(users.load_by("email", &None::<String>).await.unwrap(), None);
}

#[tokio::test]
async fn a_unique_value_is_taken_by_one_and_free_again_when_it_lets_go() {
    let users = users("unique").await;
    users.create(&user("ada")).await.unwrap();
    users.create(&user("bob")).await.unwrap();
    let thief = User { email: Some("ada@example.com".to_owned()), ..user("bob") };
    let taken = |outcome: Result<(), Error>| {
        let Err(Error::UniqueTaken { field, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(field, "email");
    };

    taken(users.create(&User { id: "eve".to_owned(), ..thief.clone() }).await);
    taken(users.replace(&thief).await);
    taken(users.save(&thief).await.map(drop));
    taken(users.update("bob", &json!({"email": "ada@example.com"})).await.map(drop));
    assert_eq!(users.get("bob").await.unwrap(), user("bob"));
    assert!(!users.exists("eve").await.unwrap());
    assert_eq!(state::check(&users).await, 2);

    users.update("ada", &json!({"email": null})).await.unwrap();
    users.replace(&thief).await.unwrap();
    users.delete("bob").await.unwrap();
    users.update("ada", &json!({"email": "ada@example.com"})).await.unwrap();
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn records_without_a_value_are_not_in_each_others_way() {
    let users = users("no_value").await;
    for id in 0..3 {
        users.create(&User { email: None, city: None, ..user(id) }).await.unwrap();
    }
    assert_eq!(state::check(&users).await, 3);
}

#[tokio::test]
async fn a_value_that_a_record_gone_by_another_hand_had_is_free() {
    let users = users("another_hand").await;
    users.create(&user("ada")).await.unwrap();
    assert!(users.conn().delete(users.key("ada")).await.unwrap());

    let heir = User { id: "bob".to_owned(), ..user("ada") };
    users.create(&heir).await.unwrap();

    assert_eq!(users.get_by("email", "ada@example.com").await.unwrap(), heir);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn a_field_that_is_not_unique_is_unsupported() {
    let users = users("unsupported").await;
    for field in ["city", "nick", "no such", ""] {
        let refused = users.get_by(field, "x").await.unwrap_err();
        assert!(matches!(refused, Error::Unsupported { .. }), "{field}: {refused:?}");
    }
}

#[tokio::test]
async fn a_record_that_has_the_value_no_more_is_not_found_by_it() {
    let users = users("no_more").await;
    users.create(&user("ada")).await.unwrap();
    // As if it changed between the two round trips.
    let plain = users.conn().with_codec(redbrick_core_conn::Codec::Plain);
    plain.hash(users.key("ada")).set("email", "!").await.unwrap();
    assert_eq!(users.load_by("email", "ada@example.com").await.unwrap(), None);
}
