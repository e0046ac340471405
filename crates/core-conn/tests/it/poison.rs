//! No reply is taken for something else, whatever words of the protocol users store.
//!
//! What is new in this crate joins the table: one entry that stores the words and asks for them in every way it has.

#![expect(clippy::unwrap_used, reason = "the helpers here are part of the tests")]

use std::{fmt::Debug, pin::Pin, time::Duration};

use bytes::Bytes;
use redbrick_core_conn::{
    BatchScript, Codec, Config, Conn, ErrorKind, Event, Invalidation, Pattern, Prefix, Reply,
    Script, State, fred::interfaces::KeysInterface,
};
use redbrick_testkit::{Server, poison, unique};
use tokio::time::{Instant, timeout};

use crate::{PATIENCE, client_list, connect, gather::at_once};

type Words = Vec<&'static str>;
type Attack = for<'a> fn(&'a Conn, &'a Words) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Every public call of this crate that takes or gives words.
const ATTACKS: &[(&str, Attack)] = &[
    ("get and set", |conn, words| Box::pin(values(conn, words))),
    ("get_many", |conn, words| Box::pin(many_values(conn, words))),
    ("get by many", |conn, words| Box::pin(gathered(conn, words))),
    ("keys", |conn, words| Box::pin(keys(conn, words))),
    ("scan", |conn, words| Box::pin(scans(conn, words))),
    ("hash", |conn, words| Box::pin(hashes(conn, words))),
    ("list", |conn, words| Box::pin(lists(conn, words))),
    ("pop_within", |conn, words| Box::pin(waits(conn, words))),
    ("publish and subscribe", |conn, words| Box::pin(messages(conn, words))),
    ("track", |conn, words| Box::pin(changes(conn, words))),
    ("members", |conn, words| Box::pin(sets(conn, words))),
    ("sorted_set", |conn, words| Box::pin(sorted_sets(conn, words))),
    ("script", |conn, words| Box::pin(scripts(conn, words))),
    ("script errors", |conn, words| Box::pin(script_errors(conn, words))),
    ("batch script", |conn, words| Box::pin(batch_scripts(conn, words))),
    ("pipeline", |conn, words| Box::pin(pipelines(conn, words))),
    ("transaction", |conn, words| Box::pin(transactions(conn, words))),
];

#[expect(clippy::needless_pass_by_value, reason = "as `assert_eq` takes them")]
fn same<T: PartialEq<U> + Debug, U: Debug>(found: T, expected: U, words: &Words) {
    assert_eq!(found, expected, "{words:?}");
}

async fn values(conn: &Conn, words: &Words) {
    conn.set(words[0], words[words.len() - 1]).await.unwrap();
    let found = conn.get::<String>(words[0]).await.unwrap();
    same(found.as_deref(), Some(words[words.len() - 1]), words);
    conn.set("value", words[0]).await.unwrap();
    same(conn.get::<String>("value").await.unwrap().as_deref(), Some(words[0]), words);
    conn.set_bytes("bytes", words[0].into()).await.unwrap();
    same(conn.get_bytes("bytes").await.unwrap().as_deref(), Some(words[0].as_bytes()), words);
    conn.count("value").await.unwrap_err();
}

async fn many_values(conn: &Conn, words: &Words) {
    let keys: Vec<_> = (0..words.len()).map(|n| format!("{{many}}{n}")).collect();
    for (key, word) in keys.iter().zip(words) {
        conn.set(key, word).await.unwrap();
    }
    let found = conn.get_many::<String, _>(&keys).await.unwrap();
    same(&found.into_iter().flatten().collect::<Vec<_>>(), words, words);
    // The words as keys, in as many slots.
    for word in words {
        conn.set(word, word).await.unwrap();
    }
    let found = conn.get_many::<String, _>(words).await.unwrap();
    same(&found.into_iter().flatten().collect::<Vec<_>>(), words, words);
    for (key, word) in keys.iter().zip(words) {
        conn.set_bytes(key, Bytes::from(*word)).await.unwrap();
    }
    let found = conn.get_many_bytes(&keys).await.unwrap();
    same(&found.into_iter().flatten().collect::<Vec<_>>(), words, words);
}

async fn gathered(conn: &Conn, words: &Words) {
    for (n, word) in words.iter().enumerate() {
        conn.set(word, word).await.unwrap();
        conn.set(format!("{{gathered}}{n}"), word).await.unwrap();
    }
    let numbered = (0..words.len()).map(|n| conn.get::<String>(format!("{{gathered}}{n}")));
    let named = words.iter().map(|word| conn.get::<String>(word));
    let found = at_once(named.chain(numbered)).await;
    for (found, word) in found.into_iter().zip(words.iter().cycle()) {
        same(found.unwrap().as_deref(), Some(*word), words);
    }
}

async fn keys(conn: &Conn, words: &Words) {
    for word in words {
        conn.set(word, &1).time_to_live(PATIENCE).await.unwrap();
        assert!(conn.exists(word).await.unwrap() && conn.persist(word).await.unwrap());
    }
    same(conn.delete_many(words).await.unwrap(), words.len() as u64, words);
    conn.increment(words[0], 7).await.unwrap();
    same(conn.count(words[0]).await.unwrap(), Some(7), words);
    assert!(conn.delete(words[0]).await.unwrap());
}

async fn scans(conn: &Conn, words: &Words) {
    let prefix = Prefix::new("scan").join(words.join("+"));
    for word in words {
        conn.set(prefix.key(word), word).await.unwrap();
    }
    let mut found = Vec::new();
    let mut scan = conn.scan(prefix.all());
    while let Some(keys) = scan.next().await.unwrap() {
        found.extend(keys.iter().filter_map(|key| prefix.id_of(key)));
    }
    found.sort();
    found.dedup();
    same(found.len(), words.len(), words);
    same(conn.delete_matching(prefix.all()).await.unwrap(), words.len() as u64, words);
}

async fn hashes(conn: &Conn, words: &Words) {
    let hash = conn.hash(format!("hash {}", words.join(",")));
    hash.set_many(words.iter().map(|word| (word, word))).await.unwrap();
    for word in words {
        assert!(hash.contains(word).await.unwrap());
        same(hash.get::<String>(word).await.unwrap().as_deref(), Some(*word), words);
    }
    let all = hash.get_all::<String>().await.unwrap();
    same(all.len(), words.len(), words);
    assert!(all.iter().all(|(field, value)| field == value), "{all:?}");
    same(hash.delete_many(words).await.unwrap(), words.len() as u64, words);
    // Two values of one field make a list of four and six too.
    hash.set(words[0], words[words.len() - 1]).await.unwrap();
    same(hash.get_all::<String>().await.unwrap().len(), 1, words);
    assert!(hash.delete(words[0]).await.unwrap());
}

async fn lists(conn: &Conn, words: &Words) {
    let list = conn.list(format!("list {}", words.join(",")));
    list.extend(words).await.unwrap();
    same(&list.range::<String>(..).await.unwrap(), words, words);
    same(&list.range::<String>(..words.len() as i64).await.unwrap(), words, words);
    same(list.pop_front::<String>().await.unwrap().as_deref(), Some(words[0]), words);
    list.push_front(words[0]).await.unwrap();
    let last = list.pop_back::<String>().await.unwrap();
    same(last.as_deref(), Some(words[words.len() - 1]), words);
    list.trim(..0).await.unwrap();
}

async fn waits(conn: &Conn, words: &Words) {
    for word in words {
        let list = conn.list(word);
        list.extend(words).await.unwrap();
        let front = list.pop_front_within::<String>(Duration::ZERO).await.unwrap();
        same(front.as_deref(), Some(words[0]), words);
        while list.pop_back_within::<String>(Duration::ZERO).await.unwrap().is_some() {}
    }
}

async fn messages(conn: &Conn, words: &Words) {
    // What is alike for a server is alike for a node.
    let mut all = conn.subscribe().pattern(Pattern::new("*").unwrap());
    for word in words {
        all = all.channel(word);
    }
    let mut all = all.await.unwrap();
    for word in words {
        let plain = conn.with_codec(Codec::Plain);
        plain.publish(word, words[0]).await.unwrap();
        for _ in 0..2 {
            let Some(Event::Message(message)) = all.next().await else { panic!("a message") };
            same(message.channel(), word.as_bytes(), words);
            same(&message.payload()[..], words[0].as_bytes(), words);
        }
    }
}

async fn changes(conn: &Conn, words: &Words) {
    let mut feed = conn.track();
    for word in words {
        feed = feed.key(word);
    }
    let mut feed = feed.await.unwrap();
    for word in words {
        conn.set(word, word).await.unwrap();
        while feed.next().await != Some(Invalidation::Key(Bytes::from_static(word.as_bytes()))) {}
        conn.delete(word).await.unwrap();
    }
}

async fn sets(conn: &Conn, words: &Words) {
    let members = conn.members(format!("set {}", words.join(",")));
    members.extend(words).await.unwrap();
    let mut all = members.all::<String>().await.unwrap();
    all.sort();
    let mut expected = words.clone();
    expected.sort_unstable();
    same(all, expected, words);
    for word in words {
        assert!(members.contains(word).await.unwrap() && members.remove(word).await.unwrap());
    }
}

async fn sorted_sets(conn: &Conn, words: &Words) {
    let set = conn.sorted_set(format!("sorted {}", words.join(",")));
    for (n, word) in (0..).zip(words) {
        set.add(word, f64::from(n)).await.unwrap();
        same(set.score(word).await.unwrap(), Some(f64::from(n)), words);
    }
    let names = |found: Vec<(String, f64)>| found.into_iter().map(|(name, _)| name).collect();
    let by_place: Vec<String> = names(set.range(..).await.unwrap());
    same(&by_place, words, words);
    let mut highest: Vec<String> = names(set.highest(u32::MAX).await.unwrap());
    highest.reverse();
    same(&highest, words, words);
    let by_score: Vec<String> = names(set.range_by_score(0.0..).await.unwrap());
    same(&by_score, words, words);
    same(set.remove_by_score(..).await.unwrap(), words.len() as u64, words);
}

static ECHO: Script = Script::new("poison.echo", "return ARGV");
static KEYS_TOO: Script = Script::new("poison.keys", "return {KEYS[1], KEYS}");
static ONE: Script = Script::new("poison.one", "return ARGV[1]");
static STATUS: Script = Script::new("poison.status", "return redis.status_reply(ARGV[1])");
static STATUSES: Script = Script::new(
    "poison.statuses",
    "local all = {} for n, word in ipairs(ARGV) do all[n] = {ok = word} end return all",
);
static DEEP: Script = Script::new("poison.deep", "return {{ARGV, ARGV[1]}, ARGV}");
static LED: Script = Script::new(
    "poison.led",
    "local all = {7} for _, word in ipairs(ARGV) do all[#all + 1] = word end return all",
);

async fn scripts(conn: &Conn, words: &Words) {
    let call = |script: &'static Script| {
        words.iter().fold(conn.script(script), |call, word| call.arg(*word))
    };
    same(&call(&ECHO).run::<Vec<String>>().await.unwrap(), words, words);
    same(call(&ONE).run::<String>().await.unwrap(), words[0], words);
    same(call(&STATUS).run::<String>().await.unwrap(), words[0], words);
    same(&call(&STATUSES).run::<Vec<String>>().await.unwrap(), words, words);
    let ((first, one), second): ((Vec<String>, String), Vec<String>) =
        call(&DEEP).run().await.unwrap();
    assert!(first == *words && second == *words && one == words[0]);
    let led: Vec<Reply> = call(&LED).run().await.unwrap();
    same(led.len(), words.len() + 1, words);
    same(led[0].clone(), Reply::Int(7), words);
    let (key, keys): (Bytes, Vec<Bytes>) =
        conn.script(&KEYS_TOO).key(words[0]).run().await.unwrap();
    assert!(key.ends_with(words[0].as_bytes()) && keys == [key]);
}

static ECHO_EACH: BatchScript = BatchScript::new(
    "poison.echo_each",
    "return function(key, how, word)
        if how == 'one' then return word end
        if how == 'status' then return {ok = word} end
        if how == 'error' then return {err = word} end
        if how == 'raise' then error(word) end
        return {word, SHARED[1], key, {word}}
    end",
);

async fn batch_scripts(conn: &Conn, words: &Words) {
    let hows = ["one", "list", "status", "error", "raise"];
    let calls = words.iter().flat_map(|word| {
        hows.map(|how| {
            let call = conn.batch_script(&ECHO_EACH).shared(words[0]).key("{each}");
            call.arg(how).arg(*word).run::<Reply>()
        })
    });
    let mut found = at_once(calls).await.into_iter();
    for word in words {
        let text = |text: &'static str| Reply::Bytes(Bytes::from_static(text.as_bytes()));
        same(found.next().unwrap().unwrap(), text(word), words);
        let Reply::List(list) = found.next().unwrap().unwrap() else { panic!("{words:?}") };
        same(&list[..2], &[text(word), text(words[0])][..], words);
        same(&list[3], &Reply::List(vec![text(word)]), words);
        let _status = found.next().unwrap().unwrap();
        for _ in 0..2 {
            assert!(!found.next().unwrap().unwrap_err().is_outcome_unknown(), "{words:?}");
        }
    }
}

static FAIL: Script = Script::new("poison.fail", "return {err = ARGV[1]}");

async fn script_errors(conn: &Conn, words: &Words) {
    let err = conn.script(&FAIL).arg(words[0]).run::<()>().await.unwrap_err();
    assert!(!err.is_outcome_unknown() && !err.is_retryable(), "{words:?}: {err:?}");
}

async fn pipelines(conn: &Conn, words: &Words) {
    let mut pipeline = conn.pipeline();
    let list = conn.list("pipeline");
    let _empty = pipeline.add(list.trim(..0));
    let _fill = pipeline.add(list.extend(words));
    let range = pipeline.add(list.range::<String>(..));
    let call = words.iter().fold(conn.script(&ECHO), |call, word| call.arg(*word));
    let echo = pipeline.add(call.run::<Vec<String>>());
    let singles: Vec<_> = words
        .iter()
        .map(|word| {
            let _set = pipeline.add(conn.set(word, word));
            pipeline.add(conn.get::<String>(word))
        })
        .collect();
    let mut results = pipeline.send().await;
    results.check().unwrap();
    same(&results.take(range).unwrap(), words, words);
    same(&results.take(echo).unwrap(), words, words);
    for (single, word) in singles.into_iter().zip(words) {
        same(results.take(single).unwrap().as_deref(), Some(*word), words);
    }
}

async fn transactions(conn: &Conn, words: &Words) {
    let keys: Vec<_> = (0..words.len()).map(|n| format!("{{tx}}{n}")).collect();
    for (key, word) in keys.iter().zip(words) {
        conn.set(key, word).await.unwrap();
    }
    conn.list("{tx}l").trim(..0).await.unwrap();
    conn.list("{tx}l").extend(words).await.unwrap();
    // The answer to this one is the words and nothing else.
    let mut transaction = conn.transaction();
    let singles: Vec<_> = keys.iter().map(|key| transaction.add(conn.get::<String>(key))).collect();
    let mut results = transaction.send().await.unwrap();
    for (single, word) in singles.into_iter().zip(words) {
        same(results.take(single).unwrap().as_deref(), Some(*word), words);
    }
    let mut transaction = conn.transaction();
    let range = transaction.add(conn.list("{tx}l").range::<String>(..));
    let all = transaction.add(conn.members("{tx}m").extend(words));
    let call = words.iter().fold(conn.script(&ECHO).key("{tx}"), |call, word| call.arg(*word));
    let echo = transaction.add(call.run::<Vec<String>>());
    let mut results = transaction.send().await.unwrap();
    same(&results.take(range).unwrap(), words, words);
    results.take(all).unwrap();
    same(&results.take(echo).unwrap(), words, words);
    // Whoever comes next on the link of transactions has its own answer.
    let mut transaction = conn.transaction();
    let count = transaction.add(conn.list("{tx}l").len());
    same(transaction.send().await.unwrap().take(count).unwrap(), words.len() as u64, words);
}

fn victim(victim: usize) -> String {
    format!("victim {victim}")
}

#[tokio::test]
async fn no_word_that_users_store_leads_a_reply_astray() {
    let conn = connect("poison").await;
    for n in 0..poison::VICTIMS {
        conn.set(victim(n), &poison::answer(n)).await.unwrap();
    }
    let mut changes = conn.state_changes();
    for (name, attack) in ATTACKS {
        for codec in [Codec::Plain, Codec::MessagePack] {
            let conn = conn.with_codec(codec).with_command_timeout(Duration::from_secs(20));
            let all = async {
                for words in poison::lists() {
                    // Plain has no bytes of its own around what is stored.
                    attack(&conn, &words).await;
                }
            };
            let reading = conn.with_codec(Codec::MessagePack);
            let reading = |n| {
                let conn = reading.clone();
                async move { conn.get::<String>(victim(n)).await }
            };
            poison::beside(name, all, reading).await;
        }
    }
    conn.delete_matching(Pattern::new("*").unwrap()).await.unwrap();
    conn.close(PATIENCE).await;
    let change = changes.next().await.expect("the end");
    assert_eq!(change.current, State::End, "the link never broke: {change:?}");
}

/// In an error, a byte that is no UTF-8 costs the client library a reply, and each later one goes to the wrong caller.
const BYTES: &[u8] = b"caf\xe9";
static ITEM: Script = Script::new("poison.item", "return {1, {err = 'NOTFOUND ' .. ARGV[1]}, 3}");
static DEEP_ITEM: Script = Script::new("poison.deep_item", "return {{{{err = ARGV[1]}}}}");
static RETURNED: Script = Script::new("poison.returned", "return {err = 'NOTFOUND ' .. ARGV[1]}");
static RAISED: Script = Script::new("poison.raised", "error('no ' .. ARGV[1])");
static THEIRS: Script = Script::new(
    "poison.theirs",
    "return {redis.pcall('XREADGROUP', 'GROUP', ARGV[1], 'c', 'STREAMS', KEYS[1], '>')}",
);

static MAPPED: Script = Script::new(
    "poison.mapped",
    "return {map = {a = {err = ARGV[1]}}, set = {[{err = ARGV[1]}] = true}}",
);
static MAPPED_ITEM: Script = Script::new(
    "poison.mapped_item",
    "return {1, {map = {[{err = ARGV[1]}] = 1}}, {set = {[{err = ARGV[1]}] = true}}}",
);
static DECODED: Script = Script::new("poison.decoded", "return cjson.decode(ARGV[1])");
static UNPACKED: Script = Script::new("poison.unpacked", "return cmsgpack.unpack(ARGV[1])");

/// Whoever looks into this error runs code of it, which raises another one.
static OBJECT: Script = Script::new(
    "poison.object",
    "local function raise() error(ARGV[1]) end
    error(setmetatable({}, {__index = raise, __tostring = raise, __div = raise}))",
);
static OBJECT_FOR_ALL: BatchScript = BatchScript::new(
    "poison.object_for_all",
    "local function raise() error(ARGV[3]) end
    COUNT = setmetatable({}, {__index = raise, __tostring = raise, __div = raise})
    if SHARED[1] == 'here' then error(COUNT) end
    if SHARED[1] == 'returned' then return COUNT end
    return function(key, bytes)
        local function each() error(bytes) end
        error(setmetatable({}, {__index = each, __tostring = each}))
    end",
);

async fn error_bytes(conn: &Conn) {
    let json =
        br#"{"map": {"a": {"err": "caf!"}}}"#.map(|byte| if byte == b'!' { 0xe9 } else { byte });
    let packed = b"\x81\xa3map\x81\xa1a\x81\xa3err\xa4caf\xe9";
    for _ in 0..20 {
        for (script, arg) in [
            (&ITEM, BYTES),
            (&DEEP_ITEM, BYTES),
            (&RETURNED, BYTES),
            (&RAISED, BYTES),
            (&THEIRS, BYTES),
            (&MAPPED, BYTES),
            (&MAPPED_ITEM, BYTES),
            (&DECODED, &json),
            (&UNPACKED, packed),
            (&OBJECT, BYTES),
        ] {
            let call = || conn.script(script).key("{e}k").arg(arg).run::<Reply>();
            let alone = call().await;
            assert!(!matches!(alone, Ok(Reply::Bytes(_))), "another's answer: {alone:?}");
            let mut pipeline = conn.pipeline();
            let _first = pipeline.add(call());
            let second = pipeline.add(conn.get::<String>(victim(0)));
            let mut results = pipeline.send().await;
            assert_eq!(results.take(second).unwrap(), Some(poison::answer(0)));
            let mut transaction = conn.transaction();
            let _first = transaction.add(call());
            let second = transaction.add(conn.exists("{e}missing"));
            let mut results = transaction.send().await.unwrap();
            assert!(!results.take(second).unwrap());
        }
        for shared in ["here", "returned", "each"] {
            let call = |_| {
                let call = conn.batch_script(&OBJECT_FOR_ALL).shared(shared).key("{e}k");
                call.arg(BYTES).run::<Reply>()
            };
            for found in at_once((0..4).map(call)).await {
                assert_eq!(found.unwrap_err().kind(), ErrorKind::Server, "{shared}");
            }
        }
    }
}

#[tokio::test]
async fn bytes_in_the_errors_of_scripts_lead_no_reply_astray() {
    let conn = connect("poison-errors").await;
    for n in 0..poison::VICTIMS {
        conn.set(victim(n), &poison::answer(n)).await.unwrap();
    }
    let mut changes = conn.state_changes();
    let reading = |n| {
        let conn = conn.clone();
        async move { conn.get::<String>(victim(n)).await }
    };
    poison::beside("error bytes", error_bytes(&conn), reading).await;
    conn.close(PATIENCE).await;
    let change = changes.next().await.expect("the end");
    assert_eq!(change.current, State::End, "the link never broke: {change:?}");
}

/// A server quotes the arguments of a command that it does not know.
#[tokio::test]
async fn a_command_that_the_server_does_not_know_is_not_sent() {
    let server = Server::builder()
        .config("rename-command", "RPUSH \"\"")
        .config("rename-command", "INCRBY \"\"")
        .config("rename-command", "EVAL \"\"")
        .start()
        .unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    for n in 0..poison::VICTIMS {
        conn.set(victim(n), &poison::answer(n)).await.unwrap();
    }
    let mut changes = conn.state_changes();
    let attack = async {
        for _ in 0..20 {
            for err in [
                conn.list("l").push_back("x").await.unwrap_err(),
                conn.increment(BYTES, 1).await.unwrap_err(),
                conn.script(&ONE).arg(BYTES).run::<()>().await.unwrap_err(),
                conn.list("l").range::<String>(..).await.unwrap_err(),
            ] {
                assert_eq!(
                    (err.kind(), err.code()),
                    (ErrorKind::Unsupported, Some("ERR")),
                    "{err:?}"
                );
                assert!(err.to_string().contains("does not know"), "{err}");
            }
            let mut pipeline = conn.pipeline();
            let unknown = pipeline.add(conn.increment(BYTES, 1));
            let known = pipeline.add(conn.get::<String>(victim(1)));
            let mut results = pipeline.send().await;
            assert!(results.take(unknown).unwrap_err().to_string().contains("INCRBY"));
            assert_eq!(results.take(known).unwrap(), Some(poison::answer(1)));
            let mut transaction = conn.transaction();
            let _known = transaction.add(conn.set("k", "v"));
            let _unknown = transaction.add(conn.increment(BYTES, 1));
            let err = transaction.send().await.unwrap_err();
            assert!(err.to_string().contains("INCRBY"), "{err}");
            assert!(!conn.exists("k").await.unwrap(), "nothing has run");
        }
    };
    let reading = |n| {
        let conn = conn.clone();
        async move { conn.get::<String>(victim(n)).await }
    };
    poison::beside("unknown commands", attack, reading).await;
    conn.close(PATIENCE).await;
    let change = changes.next().await.expect("the end");
    assert_eq!(change.current, State::End, "the link never broke: {change:?}");
}

/// Neither the right to ask for the commands nor to transactions is needed for that.
#[tokio::test]
async fn a_command_that_the_server_does_not_know_is_not_sent_in_other_ways_either() {
    let server = Server::builder()
        .config("rename-command", "RPUSH \"\"")
        .config("rename-command", "LRANGE \"\"")
        .user("app", "pw", "~* +@all -command")
        .start()
        .unwrap();
    let config = Config::builder().url(server.url()).username("app").password("pw");
    let conn = Conn::connect(config).await.unwrap();
    let list = conn.list(BYTES);
    let err = list.push_back("x").await.unwrap_err();
    assert!(err.to_string().contains("does not know RPUSH"), "{err}");
    assert_eq!(list.len().await.unwrap(), 0);
    let mut transaction = conn.transaction();
    let _range = transaction.add(list.range::<String>(..));
    let err = transaction.send().await.unwrap_err();
    assert!(err.to_string().contains("does not know LRANGE"), "{err}");
}

/// It takes the end of its own function, and gets past what core-conn puts around it.
static ASTRAY: Script =
    Script::new("poison.astray", "end do return {err = 'caf' .. string.char(233)}");

#[tokio::test]
async fn a_link_whose_replies_are_out_of_step_ends() {
    let server = Server::start().unwrap();
    let conn = Conn::connect(server.url()).await.unwrap();
    conn.set("k", "v").await.unwrap();
    let links = || client_list(&server).into_iter();
    let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let old: Vec<String> = links().map(|line| id(&line)).collect();
    assert!(!old.is_empty());
    let short = Duration::from_millis(50);
    let _lost = conn.script(&ASTRAY).run::<Reply>().timeout(short).await;
    let lost = Instant::now();
    while links().any(|line| old.contains(&id(&line))) {
        assert!(lost.elapsed() < PATIENCE, "the link stays");
        let _whatever = conn.get::<String>("k").timeout(short).await;
    }
    assert_eq!(conn.get::<String>("k").await.unwrap().as_deref(), Some("v"));
}

#[tokio::test]
async fn raw_fred_fails_on_the_same_words_and_the_connection_beside_it_does_not() {
    let conn = connect("poison-raw").await;
    for n in 0..poison::VICTIMS {
        conn.set(victim(n), &poison::answer(n)).await.unwrap();
    }
    let mut changes = conn.state_changes();
    let raw = conn.fred().await.unwrap();
    let name = unique("poison-raw");
    let key = |what: &str| format!("{{{name}}}{what}");
    for (what, value) in
        [("a", "message"), ("b", "chan"), ("c", "payload"), ("first", "1"), ("second", "2")]
    {
        raw.set::<(), _, _>(key(what), value, None, None, false).await.unwrap();
    }
    let attack = async {
        // Sent in one go: the list is taken for a message, and each gets the answer of the one behind it.
        let (list, first, second) = tokio::join!(
            timeout(PATIENCE, raw.mget::<Vec<String>, _>(vec![key("a"), key("b"), key("c")])),
            timeout(PATIENCE, raw.get::<String, _>(key("first"))),
            timeout(Duration::from_millis(500), raw.get::<String, _>(key("second"))),
        );
        assert_eq!(list.unwrap().unwrap(), ["1"], "the answer to another command");
        assert_eq!(first.unwrap().unwrap(), "2", "the answer to another command");
        assert!(second.is_err(), "nothing is left for the last one");
    };
    let reading = |n| {
        let conn = conn.clone();
        async move { conn.get::<String>(victim(n)).await }
    };
    poison::beside("raw fred", attack, reading).await;
    drop(raw);
    conn.close(PATIENCE).await;
    let change = changes.next().await.expect("the end");
    assert_eq!(change.current, State::End, "the link never broke: {change:?}");
}
