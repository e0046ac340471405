//! No word of the protocol that users store or ask for leads a reply astray.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{borrow::Cow, collections::BTreeMap};

use redbrick_resource::{Notice, Record, Resource};
use redbrick_testkit::poison;
use serde::{Deserialize, Serialize};

use crate::{User, connect, size, user};

/// A record whose fields can have any name.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Free(BTreeMap<String, String>);

impl Record for Free {
    const NAME: &'static str = "message";
    const UNIQUE: &'static [&'static str] = &["message", "subscribe"];
    const LOOKUP: &'static [&'static str] = &["pmessage", "QUEUED"];

    fn id(&self) -> Cow<'_, str> {
        self.0.get("message").map_or("subscribe", |id| id).into()
    }
}

fn victim(n: usize) -> String {
    format!("victim {n}")
}

async fn records(users: &Resource<User>, words: &[&str]) {
    let (first, last) = (words[0], words[words.len() - 1]);
    let mine = User {
        id: first.to_owned(),
        email: Some(last.to_owned()),
        city: Some(first.to_owned()),
        age: 3,
        tags: words.iter().map(|&word| word.to_owned()).collect(),
        nick: Some(last.to_owned()),
    };
    users.save(&mine).await.unwrap();
    users.create(&mine).await.unwrap_err();
    users.create(&User { id: format!("{first}2"), ..mine.clone() }).await.unwrap_err();
    users.replace(&mine).await.unwrap();
    let nick = serde_json::json!({"nick": first, "city": last, "tags": words});
    users.update(first, &nick).await.unwrap();
    assert_eq!(users.update(first, &mine).await.unwrap(), mine);
    assert!(users.exists(first).await.unwrap() && users.touch(first).await.unwrap());
    assert_eq!(users.get(first).await.unwrap(), mine);
    assert_eq!(users.get_by("email", last).await.unwrap(), mine);
    for word in words {
        users.load_by("email", word).await.unwrap();
        users.list().where_eq("city", word).where_eq("age", &3).await.unwrap();
        users.save(&User { city: mine.city.clone(), ..user(format!("{word}.")) }).await.unwrap();
    }
    let found = users.list().where_eq("city", first).size(size(3)).await.unwrap();
    assert!(found.items.contains(&mine) || found.total > 3, "{found:?}");
    users.list().size(size(4)).await.unwrap();
    assert_eq!(users.pick(first).await.unwrap(), mine);
    for word in words {
        users.delete(format!("{word}.")).await.unwrap().unwrap();
    }
}

async fn fields(free: &Resource<Free>, words: &[&str]) {
    let fields = words.iter().map(|&word| (word.to_owned(), words[0].to_owned()));
    let mine = Free(fields.collect());
    let id = mine.id().into_owned();
    free.save(&mine).await.unwrap();
    assert_eq!(free.get(&id).await.unwrap(), mine);
    let patch: BTreeMap<_, _> =
        words.iter().filter(|word| **word != "id").map(|word| (word, word)).collect();
    free.update(&id, &patch).await.unwrap();
    free.list().where_eq("QUEUED", "QUEUED").where_eq("pmessage", "pmessage").await.unwrap();
    free.delete(&id).await.unwrap().unwrap();
}

async fn messages(users: &Resource<User>, words: &[&str]) {
    let mut all = users.subscribe::<String>();
    for word in words {
        all = all.channel(word).record(word);
    }
    let mut all = all.await.unwrap();
    for word in words {
        users.publish(words[0]).channel(word).await.unwrap();
        users.publish(words[0]).record(word).await.unwrap();
        for _ in 0..2 {
            let Some(Notice::Message(message)) = all.next().await else { panic!("a message") };
            assert_eq!(message, words[0]);
        }
    }
}

#[tokio::test]
async fn no_word_of_the_protocol_leads_a_reply_astray() {
    let conn = connect("poison").await;
    for n in 0..poison::VICTIMS {
        conn.set(victim(n), &poison::answer(n)).await.unwrap();
    }
    let attack = async {
        for words in poison::lists() {
            let named = Resource::<User>::builder(conn.clone()).name(words[0]).build();
            let parted = Resource::<User>::builder(conn.clone()).partition(words[0]).build();
            records(&named, &words).await;
            records(&parted, &words).await;
            fields(&Resource::new(conn.clone()), &words).await;
            messages(&named, &words).await;
        }
    };
    let reading = |n| {
        let conn = conn.clone();
        async move { conn.get::<String>(victim(n)).await }
    };
    poison::beside("resource", attack, reading).await;
}
