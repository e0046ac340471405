use redbrick_core_conn::{Codec, Conn};
use redbrick_resource::{DEFAULT_PAGE_SIZE, Error, Record, Resource, Saved};
use serde::Serialize;
use serde_json::json;

use crate::{User, connect, state, user, users};

#[tokio::test]
async fn a_record_is_created_once_and_read() {
    let users = users("created_once").await;

    users.create(&user("ada")).await.unwrap();
    let again = users.create(&User { age: 99, ..user("ada") }).await.unwrap_err();

    assert!(matches!(again, Error::Exists), "{again:?}");
    assert_eq!(users.get("ada").await.unwrap(), user("ada"));
    assert_eq!(users.load("ada").await.unwrap(), Some(user("ada")));
    assert!(users.exists("ada").await.unwrap());
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn a_missing_record_is_an_error_to_get_and_nothing_to_load() {
    let users = users("missing").await;

    assert!(matches!(users.get("x").await.unwrap_err(), Error::Unknown));
    assert_eq!(users.load("x").await.unwrap(), None);
    assert!(!users.exists("x").await.unwrap());
    assert_eq!(users.delete("x").await.unwrap(), None);
    assert!(matches!(users.pick("x").await.unwrap_err(), Error::Unknown));
    assert!(matches!(users.replace(&user("x")).await.unwrap_err(), Error::Unknown));
    let patch = json!({"age": 1});
    assert!(matches!(users.update("x", &patch).await.unwrap_err(), Error::Unknown));
    assert!(!users.touch("x").await.unwrap());
    assert_eq!(state::check(&users).await, 0);
}

#[tokio::test]
async fn save_creates_and_replaces_and_says_which() {
    let users = users("save").await;

    assert_eq!(users.save(&user("ada")).await.unwrap(), Saved::Created);
    let changed = User { email: None, city: Some("Oslo".to_owned()), ..user("ada") };
    assert_eq!(users.save(&changed).await.unwrap(), Saved::Replaced);

    assert_eq!(users.get("ada").await.unwrap(), changed);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn a_whole_write_leaves_no_field_of_the_record_before() {
    let users = users("whole").await;
    let nicked = User { nick: Some("countess".to_owned()), ..user("ada") };
    let fields = users.conn().hash(users.key("ada"));
    for replace in [true, false] {
        users.save(&nicked).await.unwrap();
        assert!(fields.contains("nick").await.unwrap());
        if replace {
            users.replace(&user("ada")).await.unwrap();
        } else {
            users.save(&user("ada")).await.unwrap();
        }
        assert!(!fields.contains("nick").await.unwrap());
        assert_eq!(users.get("ada").await.unwrap().nick, None);
    }
}

#[tokio::test]
async fn update_merges_what_is_given_and_returns_the_record() {
    #[derive(Serialize)]
    struct Patch<'a> {
        city: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        age: Option<u32>,
    }
    let users = users("update").await;
    users.create(&user("ada")).await.unwrap();

    let moved = users.update("ada", &Patch { city: Some("Oslo"), age: None }).await.unwrap();
    assert_eq!(moved, User { city: Some("Oslo".to_owned()), ..user("ada") });
    let gone = users.update("ada", &Patch { city: None, age: Some(37) }).await.unwrap();
    assert_eq!(gone, User { city: None, age: 37, ..user("ada") });
    assert_eq!(users.update("ada", &json!({})).await.unwrap(), gone);
    assert_eq!(users.update("ada", &json!({"id": "ada", "age": 38})).await.unwrap().age, 38);
    let tags = json!({"tags": ["a", "b"], "email": null});
    assert_eq!(users.update("ada", &tags).await.unwrap().tags, ["a", "b"]);
    assert_eq!(state::check(&users).await, 1);
}

#[tokio::test]
async fn a_newer_release_keeps_its_fields_through_an_update() {
    let users = users("newer").await;
    users.create(&user("ada")).await.unwrap();
    let plain = users.conn().with_codec(Codec::Plain);
    plain.hash(users.key("ada")).set("phone", "!").await.unwrap();

    users.update("ada", &json!({"age": 31})).await.unwrap();

    assert!(plain.hash(users.key("ada")).contains("phone").await.unwrap());
    assert_eq!(users.get("ada").await.unwrap().age, 31);
}

#[tokio::test]
async fn delete_and_pick_hand_the_record_over() {
    let users = users("handed_over").await;
    users.create(&user("ada")).await.unwrap();
    users.create(&user("bob")).await.unwrap();

    assert_eq!(users.delete("ada").await.unwrap(), Some(user("ada")));
    assert_eq!(users.pick("bob").await.unwrap(), user("bob"));

    assert!(!users.exists("ada").await.unwrap() && !users.exists("bob").await.unwrap());
    assert_eq!(state::check(&users).await, 0);
    users.create(&user("ada")).await.unwrap();
}

#[tokio::test]
async fn a_record_of_nine_thousand_fields_is_written_and_read() {
    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Wide(std::collections::BTreeMap<String, u32>);
    impl Record for Wide {
        const NAME: &'static str = "wide";
        fn id(&self) -> std::borrow::Cow<'_, str> {
            "w".into()
        }
    }
    let wide = Wide((0..9_000).map(|n| (format!("f{n}"), n)).collect());
    let resource = Resource::<Wide>::new(connect("wide").await);

    resource.create(&wide).await.unwrap();
    assert_eq!(resource.get("w").await.unwrap(), wide);
    assert_eq!(resource.update("w", &wide).await.unwrap(), wide);
}

#[test]
fn what_it_was_made_of_can_be_asked_for() {
    let conn = || Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let users = Resource::<User>::new(conn());
    assert_eq!((users.name(), users.prefix().to_string()), ("users", "resource:users".to_owned()));
    assert_eq!(users.key("a:1").to_string(), "resource:users:{users}:record:a%3A1");
    assert!(!users.conn().is_connected());

    let named = Resource::<User>::builder(conn()).name("b:c").partition("t{1}").build();
    assert_eq!(named.key("a").to_string(), "resource:b%3Ac:{t%7B1%7D}:record:a");
    assert_eq!(DEFAULT_PAGE_SIZE.get(), 10);
}

#[tokio::test]
async fn partitions_and_names_are_apart() {
    let conn = connect("apart").await;
    let one = Resource::<User>::builder(conn.clone()).partition("1").build();
    let two = Resource::<User>::builder(conn.clone()).partition("2").build();
    let other = Resource::<User>::builder(conn).name("others").build();

    for users in [&one, &two, &other] {
        users.create(&user("ada")).await.unwrap();
    }
    one.delete("ada").await.unwrap();

    assert_eq!(two.list().await.unwrap().total, 1);
    assert_eq!(other.get_by("email", "ada@example.com").await.unwrap(), user("ada"));
}

/// Checked while compiling.
#[tokio::test]
async fn handles_and_futures_go_to_other_threads() {
    fn send<T: Send>(_: T) {}
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let users = Resource::<User>::new(Conn::connect_lazy("redis://127.0.0.1:1").unwrap());
    shared(&users);
    let (ada, id) = (user("ada"), String::from("ada"));
    send(users.create(&ada).into_future());
    send(users.save(&ada).time_to_live(std::time::Duration::MAX).into_future());
    send(users.replace(&ada).into_future());
    send(users.update(&id, &json!({})).into_future());
    send(users.touch(&id).into_future());
    send(users.get(&id));
    send(users.load(id.clone()));
    send(users.exists("ada"));
    send(users.get_by("email", "x"));
    send(users.load_by("email", &id));
    send(users.delete(&id));
    send(users.pick(&id));
    send(users.list().where_eq("city", "x").into_future());
    send(users.publish("x").into_future());
    send(users.subscribe::<String>().into_future());
    send(users.subscribe::<String>().on_message(|_| async {}));
}
