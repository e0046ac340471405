//! Scripts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use redbrick_core_conn::{Codec, Conn, Error, ErrorKind, Replay, Reply, Script, State};
use redbrick_testkit::{Fault, Topology, shared};

use crate::{PATIENCE, connect, connect_named, cost, eventually, server};

/// Runs a script without keys that was given as a text.
macro_rules! run {
    ($conn:expr, $source:expr) => {{
        static SCRIPT: Script = Script::new("test.run", $source);
        $conn.script(&SCRIPT).run::<Option<Reply>>().await
    }};
}

fn bytes(text: &'static str) -> Reply {
    Reply::Bytes(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn whatever_a_script_returns_arrives() {
    let conn = connect("script-returns").await;
    let some = |reply| Some(reply);
    for (found, expected) in [
        (run!(conn, "return nil"), None),
        (run!(conn, "return false"), None),
        (run!(conn, "return"), None),
        (run!(conn, "local a = 1"), None),
        (run!(conn, ""), None),
        (run!(conn, "-- only words"), None),
        (run!(conn, "return true"), some(Reply::Int(1))),
        (run!(conn, "return 7"), some(Reply::Int(7))),
        (run!(conn, "return -3.99"), some(Reply::Int(-3))),
        (run!(conn, "return 9007199254740991"), some(Reply::Int(9_007_199_254_740_991))),
        (run!(conn, "return ''"), some(bytes(""))),
        (run!(conn, "return 'text'"), some(bytes("text"))),
        (
            run!(conn, "return string.char(255, 0)"),
            some(Reply::Bytes(Bytes::from_static(b"\xff\0"))),
        ),
        (run!(conn, "return {}"), some(Reply::List(vec![]))),
        (run!(conn, "return {1, nil, 3}"), some(Reply::List(vec![Reply::Int(1)]))),
        (
            run!(conn, "return {1, false, {'a', {}}}"),
            some(Reply::List(vec![
                Reply::Int(1),
                Reply::Nil,
                Reply::List(vec![bytes("a"), Reply::List(vec![])]),
            ])),
        ),
        (run!(conn, "return redis.status_reply('FINE')"), some(bytes("FINE"))),
        (run!(conn, "return {ok = 'QUEUED'}"), some(bytes("QUEUED"))),
        (run!(conn, "return redis.call('PING')"), some(bytes("PONG"))),
        (run!(conn, "return 1, 2"), some(Reply::Int(1))),
        (run!(conn, "-- first\nreturn 1 -- last"), some(Reply::Int(1))),
        (run!(conn, "--[[ long\n]] return 1 --[[ last ]]"), some(Reply::Int(1))),
        (run!(conn, "local function main() return 2 end\nreturn main()"), some(Reply::Int(2))),
        (run!(conn, "local reply = 'mine'; return reply"), some(bytes("mine"))),
        (run!(conn, "do return 'early' end\nreturn 'late'"), some(bytes("early"))),
    ] {
        assert_eq!(found.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_script_may_have_as_many_locals_as_lua_allows() {
    static LOCALS: std::sync::OnceLock<(&'static str, Script)> = std::sync::OnceLock::new();
    let conn = connect("script-locals").await;
    let (_, script) = LOCALS.get_or_init(|| {
        let locals: String = (0..200).map(|n| format!("local v{n} = {n}\n")).collect();
        let source = Box::leak(format!("{locals}return v0 + v199").into_boxed_str());
        (source, Script::new("test.locals", source))
    });
    assert_eq!(conn.script(script).run::<i64>().await.unwrap(), 199);
}

#[tokio::test]
async fn keys_and_arguments_arrive_as_they_are_meant() {
    static ECHO: Script = Script::new(
        "test.echo",
        "local all = {KEYS[1]}\nfor _, arg in ipairs(ARGV) do all[#all + 1] = arg end\nreturn all",
    );
    let (conn, prefix) = connect_named("script-args").await;
    let lent = String::from("lent");
    let call = conn
        .script(&ECHO)
        .key("k")
        .arg("text")
        .arg(String::from("owned"))
        .arg(&lent)
        .arg(b"\xff\0".as_slice())
        .arg(vec![1_u8, 2])
        .arg(Bytes::from_static(b"bytes"))
        .arg(-1_i32)
        .arg(u32::MAX)
        .arg(i64::MIN)
        .arg(u64::MAX)
        .arg(3_usize)
        .arg(true)
        .arg(false)
        .arg(Duration::from_micros(1_999_999))
        .arg("")
        .arg(0.25)
        .value("value")
        .value(&7);
    assert!(!format!("{call:?}").contains("text"), "{call:?}");
    let found: Vec<Bytes> = call.run().await.unwrap();
    let key = format!("{prefix}:k");
    let expected: [&[u8]; 17] = [
        key.as_bytes(),
        b"text",
        b"owned",
        b"lent",
        b"\xff\0",
        &[1, 2],
        b"bytes",
        b"-1",
        b"4294967295",
        b"-9223372036854775808",
        b"18446744073709551615",
        b"3",
        b"1",
        b"0",
        b"1999",
        b"",
        b"0.25",
    ];
    assert_eq!(found[..17], expected);
    // A value is what `set` would have stored.
    static STORE: Script = Script::new("test.store", "return redis.call('SET', KEYS[1], ARGV[1])");
    for codec in [Codec::MessagePack, Codec::Json, Codec::Plain] {
        let conn = conn.with_codec(codec);
        let stored: String = conn.script(&STORE).key("v").value(&(1, "x")).run().await.unwrap();
        assert_eq!(stored, "OK");
        assert_eq!(conn.get("v").await.unwrap(), Some((1, "x".to_owned())));
    }
    let unnamed = std::collections::BTreeMap::from([(vec![1], 1)]);
    let json = conn.with_codec(Codec::Json);
    let err = json.script(&STORE).key("unset").value(&unnamed).run::<()>().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Codec, "{err:?}");
    assert!(!conn.exists("unset").await.unwrap());
}

#[tokio::test]
async fn an_answer_of_another_type_is_an_error_that_says_so() {
    let conn = connect("script-types").await;
    static SEVEN: Script = Script::new("test.seven", "return 7");
    assert_eq!(conn.script(&SEVEN).run::<u64>().await.unwrap(), 7);
    assert_eq!(conn.script(&SEVEN).run::<u32>().await.unwrap(), 7);
    assert_eq!(conn.script(&SEVEN).run::<usize>().await.unwrap(), 7);
    static HALF: Script = Script::new("test.fraction", "return tostring(ARGV[1] / 2)");
    assert_eq!(conn.script(&HALF).arg(7).run::<f64>().await.unwrap().to_string(), "3.5");
    static FAR: Script = Script::new("test.far", "return 4294967296");
    conn.script(&FAR).run::<u32>().await.unwrap_err();
    conn.script(&SEVEN).run::<f64>().await.unwrap_err();
    for err in [
        conn.script(&SEVEN).run::<bool>().await.unwrap_err(),
        conn.script(&SEVEN).run::<String>().await.unwrap_err(),
        conn.script(&SEVEN).run::<Vec<i64>>().await.unwrap_err(),
        conn.script(&SEVEN).run::<(i64, i64)>().await.unwrap_err(),
    ] {
        assert_eq!(err.kind(), ErrorKind::Protocol, "{err:?}");
        assert!(err.is_outcome_unknown(), "it has run");
    }
    conn.script(&SEVEN).run::<()>().await.unwrap();
}

#[tokio::test]
async fn an_error_within_has_the_code_of_what_raised_it() {
    let conn = connect("script-errors").await;
    conn.set("text", "x").await.unwrap();
    static CALL: Script = Script::new("test.call", "return redis.call('LPUSH', KEYS[1], 'x')");
    static PCALL: Script = Script::new("test.pcall", "return redis.pcall('LPUSH', KEYS[1], 'x')");
    static NESTED: Script =
        Script::new("test.nested", "return {7, redis.pcall('LPUSH', KEYS[1], 'x')}");
    for script in [&CALL, &PCALL] {
        let err = conn.script(script).key("text").run::<i64>().await.unwrap_err();
        assert_eq!((err.kind(), err.code()), (ErrorKind::WrongType, Some("WRONGTYPE")), "{err:?}");
        assert!(!err.is_outcome_unknown() && !err.is_retryable());
    }
    let err = conn.script(&NESTED).key("text").run::<(i64, i64)>().await.unwrap_err();
    assert_eq!(err.code(), Some("WRONGTYPE"), "{err:?}");

    let err = run!(conn, "error('boom')").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
    let err = run!(conn, "return nothing.at_all").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
    let err = run!(conn, "this is not Lua").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
    let err = run!(conn, "return redis.call('NOSUCHCOMMAND')").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
    conn.ping().await.unwrap();
}

#[tokio::test]
async fn an_error_that_a_script_returns_is_its_own_and_never_the_links() {
    let conn = connect("script-own-errors").await;
    let mut changes = conn.state_changes();
    let err = run!(conn, "return redis.error_reply('-MYCODE what happened')").unwrap_err();
    assert_eq!((err.kind(), err.code()), (ErrorKind::Server, Some("MYCODE")), "{err:?}");
    let err = run!(conn, "return {err = '-MYCODE what happened'}").unwrap_err();
    assert_eq!((err.kind(), err.code()), (ErrorKind::Server, Some("MYCODE")), "{err:?}");
    for result in [
        run!(conn, "return redis.error_reply('no code at all')"),
        run!(conn, "return redis.error_reply('-no code at all')"),
        run!(conn, "return redis.error_reply('')"),
        run!(conn, "return {err = ''}"),
        run!(conn, "return {err = '-MOVED 1 127.0.0.1:1'}"),
        run!(conn, "return {err = '-ASK 1 127.0.0.1:1'}"),
        run!(conn, "return {err = '-CLUSTERDOWN x'}"),
        run!(conn, "return {err = '-NOSCRIPT x'}"),
        run!(conn, "return {err = '-TRYAGAIN x'}"),
    ] {
        let err = result.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Server, "{err:?}");
        assert!(!err.is_outcome_unknown() && !err.is_retryable(), "{err:?}");
    }
    conn.close(PATIENCE).await;
    let change = changes.next().await.expect("the end");
    assert_eq!(change.current, State::End, "the link never broke: {change:?}");
}

#[tokio::test]
async fn an_error_inside_a_list_is_that_items_own() {
    type Items = Vec<Result<i64, Error>>;
    static BOTH: Script = Script::new(
        "test.both_items",
        "return {redis.call('INCR', KEYS[1]), redis.pcall('LPUSH', KEYS[1], 'x'), redis.call('INCR', KEYS[1])}",
    );
    let conn = connect("script-items").await;
    let items = conn.script(&BOTH).key("n").run::<Items>().await.unwrap();
    assert!(matches!(&*items, [Ok(1), Err(_), Ok(2)]), "{items:?}");
    let err = items.into_iter().find_map(Result::err).unwrap();
    assert_eq!((err.kind(), err.code()), (ErrorKind::WrongType, Some("WRONGTYPE")), "{err:?}");
    let err = conn.script(&BOTH).key("n").run::<Vec<i64>>().await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::WrongType, "{err:?}");

    for result in [
        run!(conn, "return {1, {err = '-MOVED 1 127.0.0.1:1'}}"),
        run!(conn, "return {1, {err = '-CLUSTERDOWN x'}}"),
        run!(conn, "return {1, {err = '-NOSCRIPT x'}}"),
        run!(conn, "return {{1, {err = '-LOADING x'}}}"),
    ] {
        assert!(matches!(result, Ok(Some(Reply::List(_)))), "{result:?}");
    }
    assert_eq!(conn.count("n").await.unwrap(), Some(4), "each ran once");
}

#[tokio::test]
async fn what_lies_too_deep_within_lists_is_an_error_in_its_place() {
    static DEEP: Script = Script::new(
        "test.deep",
        "local list = {1} for n = 2, tonumber(ARGV[1]) do list = {list} end return list",
    );
    let conn = connect("script-deep").await;
    let deep = |levels: i32| conn.script(&DEEP).arg(levels).run::<Reply>();
    let levels = |mut reply: Reply| {
        let mut levels = 0;
        while let Reply::List(mut items) = reply {
            levels += 1;
            reply = items.pop().unwrap();
        }
        (levels, reply)
    };
    assert_eq!(levels(deep(128).await.unwrap()), (128, Reply::Int(1)));
    static DECODED: Script = Script::new("test.decoded", "return {1, cjson.decode(ARGV[1])}");
    let (open, close) = ("[".repeat(900), "]".repeat(900));
    for field in ["map", "set", "x"] {
        let json = format!("{{\"{field}\": {{\"a\": {open}1{close}}}}}");
        assert!(conn.script(&DECODED).arg(json).run::<Reply>().await.is_ok(), "{field}");
    }
    for too_many in [129, 10_000] {
        let (levels, last) = levels(deep(too_many).await.unwrap());
        assert!(levels == 128 && matches!(last, Reply::Error(_)), "{levels}: {last:?}");
        let mut transaction = conn.transaction();
        let ticket = transaction.add(deep(too_many));
        let count = transaction.add(conn.count("missing"));
        let mut results = transaction.send().await.unwrap();
        assert!(matches!(results.take(ticket), Ok(Reply::List(_))));
        assert_eq!(results.take(count).unwrap(), None);
    }
    conn.ping().await.unwrap();
}

/// Whatever a script returns, it has run once, and its tables are read as they lie there.
#[tokio::test]
async fn metatables_and_odd_errors_change_nothing() {
    let conn = connect("script-tables").await;
    macro_rules! after_counting {
        ($source:expr) => {{
            static SCRIPT: Script =
                Script::new("test.tables", concat!("redis.call('INCR', KEYS[1]) ", $source));
            conn.delete("n").await.unwrap();
            let result = conn.script(&SCRIPT).key("n").run::<Reply>().await;
            assert_eq!(conn.count("n").await.unwrap(), Some(1), "{} ran once: {result:?}", $source);
            result
        }};
    }
    let list = |items: &[i64]| Reply::List(items.iter().copied().map(Reply::Int).collect());
    for (found, expected) in [
        (
            after_counting!(
                "return setmetatable({1}, {__index = function() error({err = 'BUSY x'}) end})"
            ),
            list(&[1]),
        ),
        (
            after_counting!("return setmetatable({1, 2}, {__index = function(_, k) error(k) end})"),
            list(&[1, 2]),
        ),
        (
            after_counting!(
                "return setmetatable({}, {__index = function() return redis.call('INCR', KEYS[1]) end})"
            ),
            list(&[]),
        ),
        (after_counting!("return {err = 5, 1, 2}"), list(&[1, 2])),
        (after_counting!("return {err = true, 1, 2}"), list(&[1, 2])),
    ] {
        assert_eq!(found.unwrap(), expected);
    }
    for failed in [
        after_counting!("error({err = 'BUSY x'})"),
        after_counting!("error({1, 2})"),
        after_counting!("error(setmetatable({}, {__index = function() error('y') end}))"),
        after_counting!("error()"),
        after_counting!("error(function() end)"),
    ] {
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Server);
    }
}

/// A stored value that a script quotes in its error decides nothing, and is not shown.
#[tokio::test]
async fn what_is_stored_does_not_say_what_an_error_means() {
    static QUOTE: Script =
        Script::new("test.quote", "error('unknown state: ' .. redis.call('GET', KEYS[1]))");
    static ALONE: Script = Script::new("test.alone", "error(redis.call('GET', KEYS[1]), 0)");
    let conn = connect("script-quotes").await;
    let plain = conn.with_codec(Codec::Plain);
    let mut changes = conn.state_changes();
    for stored in ["READONLY", "OOM", "NOPERM hunter2", "LOADING", "CLUSTERDOWN", "hunter2"] {
        plain.set("state", stored).await.unwrap();
        for script in [&QUOTE, &ALONE] {
            let err = conn.script(script).key("state").run::<()>().await.unwrap_err();
            assert!(!format!("{err} {err:?}").contains("hunter2"), "{err:?}");
        }
        let err = conn.script(&QUOTE).key("state").run::<()>().await.unwrap_err();
        assert_eq!((err.kind(), err.code()), (ErrorKind::Server, None), "{err:?}");
    }
    conn.close(PATIENCE).await;
    let change = changes.next().await.expect("the end");
    assert_eq!(change.current, State::End, "the link never broke: {change:?}");
}

#[tokio::test]
async fn a_script_that_does_not_compile_says_where() {
    let conn = connect("script-syntax").await;
    let err = run!(conn, "local a = 1\nreturn }").unwrap_err();
    assert!(err.to_string().contains("user_script:2: unexpected symbol near '}'"), "{err}");
}

#[test]
#[should_panic(expected = "a script is ASCII")]
fn a_script_is_ascii() {
    let _script = Script::new("test.ascii", "return '\u{e9}'");
}

#[test]
#[should_panic(expected = "a script is ASCII")]
fn the_escapes_of_a_script_are_ascii_too() {
    let _fine = Script::new("test.escapes", r"return '\\233\65\n\127' -- \");
    let _script = Script::new("test.escapes", r"return 1 'caf\233'");
}

#[test]
#[should_panic(expected = "no `#!` line")]
fn a_script_has_no_shebang() {
    let _script = Script::new("test.shebang", "#!lua\nreturn 1");
}

#[tokio::test]
async fn what_ran_before_the_error_stays() {
    static HALF: Script = Script::new(
        "test.half",
        "redis.call('INCR', KEYS[1]) return redis.error_reply('-HALF way')",
    );
    let conn = connect("script-half").await;
    let err = conn.script(&HALF).key("n").run::<()>().await.unwrap_err();
    assert_eq!(err.code(), Some("HALF"), "{err:?}");
    assert_eq!(conn.count("n").await.unwrap(), Some(1), "once");
}

#[tokio::test]
async fn keys_of_several_slots_are_refused_on_a_cluster_before_anything_is_sent() {
    static BOTH: Script = Script::new(
        "test.both",
        "return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])",
    );
    let conn = connect("script-slots").await;
    let apart = conn.script(&BOTH).key("a").key("b").run::<i64>().await;
    if shared().topology() == Topology::Cluster {
        let err = apart.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::InvalidArgument, "{err:?}");
        assert!(err.to_string().contains("hash tag"), "{err}");
        assert_eq!(conn.count("a").await.unwrap(), None);
    } else {
        assert_eq!(apart.unwrap(), 2);
    }
    assert_eq!(conn.script(&BOTH).key("{t}a").key("{t}b").run::<i64>().await.unwrap(), 2);
}

#[tokio::test]
async fn a_script_costs_one_round_trip_and_one_more_where_it_is_not_known() {
    static ONE: Script = Script::new("test.one", "return 1 -- of its own");
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let once = || async { assert_eq!(conn.script(&ONE).run::<i64>().await.unwrap(), 1) };
    assert_eq!(cost(&server, once()).await, "eval 1, evalsha 1");
    assert_eq!(cost(&server, once()).await, "evalsha 1");
    server.command(["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(cost(&server, once()).await, "eval 1, evalsha 1");
    assert_eq!(ONE.name(), "test.one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgets_under_load_run_once_each() {
    static COUNT: Script = Script::new("test.count", "return redis.call('INCR', KEYS[1])");
    static FLUSHING: AtomicBool = AtomicBool::new(true);
    let server = server();
    let conn = Conn::connect(server.url()).await.unwrap();
    let flusher = tokio::task::spawn_blocking({
        let server = server.clone();
        move || {
            let mut flushes = 0;
            while FLUSHING.load(Ordering::Relaxed) {
                server.command(["SCRIPT", "FLUSH"]).unwrap();
                flushes += 1;
            }
            flushes
        }
    });
    let tasks = (0..8).map(|task| {
        let conn = conn.clone();
        tokio::spawn(async move {
            for round in 1..=250 {
                let key = format!("n{task}");
                assert_eq!(conn.script(&COUNT).key(key).run::<i64>().await.unwrap(), round);
            }
        })
    });
    let results: Vec<_> = tasks.collect();
    for task in results {
        task.await.unwrap();
    }
    FLUSHING.store(false, Ordering::Relaxed);
    assert!(flusher.await.unwrap() > 10);
    let counts = server.command_counts().unwrap();
    assert_eq!(counts.of("incr"), 2_000, "nothing lost, nothing twice");
    assert!(counts.of("eval") > 2, "it was forgotten more than once");
}

#[tokio::test]
async fn a_script_whose_reply_is_lost_is_sent_again_only_where_that_is_the_same() {
    static ONCE: Script = Script::new("test.once", "return redis.call('INCR', KEYS[1])");
    static AGAIN: Script =
        Script::new("test.again", "return redis.call('INCR', KEYS[1])").replay(Replay::Idempotent);
    for (script, replay, again) in [
        (&ONCE, None, false),
        (&AGAIN, None, true),
        (&AGAIN, Some(Replay::Never), false),
        (&ONCE, Some(Replay::Idempotent), true),
    ] {
        let server = server();
        let proxy = server.proxy().unwrap();
        let conn = Conn::connect(proxy.url()).await.unwrap();
        conn.script(script).key("warm").run::<i64>().await.unwrap();
        proxy.set(Fault::DropReplies);
        let call = tokio::spawn({
            let conn = conn.clone();
            async move {
                let call = conn.script(script).key("n").run::<i64>();
                match replay {
                    Some(replay) => call.replay(replay).await,
                    None => call.await,
                }
            }
        });
        let counting = server.clone();
        eventually("the script", move || counting.command_counts().unwrap().of("incr") == 2).await;
        proxy.reset();
        proxy.clear();
        match call.await.unwrap() {
            Ok(count) => assert!(again && count == 2, "{count}"),
            Err(err) => assert!(!again && err.is_outcome_unknown(), "{err:?}"),
        }
    }
}

static RAISES_BUSY: Script =
    Script::new("test.raises_busy", "redis.call('INCR', KEYS[1]) error({err = 'BUSY try later'})");
static RAISES_TEXT: Script =
    Script::new("test.raises_text", "redis.call('INCR', KEYS[1]) error('BUSY try later')");
static RAISES_UNKNOWN: Script =
    Script::new("test.raises_unknown", "redis.call('INCR', KEYS[1]) error({err = 'NOSCRIPT x'})");
static RAISES_MOVED: Script = Script::new(
    "test.raises_moved",
    "redis.call('INCR', KEYS[1]) error({err = 'MOVED 1 127.0.0.1:1'})",
);
static RAISES_DOWN: Script =
    Script::new("test.raises_down", "redis.call('INCR', KEYS[1]) error({err = 'CLUSTERDOWNX'})");

#[tokio::test]
async fn a_script_that_raises_an_error_has_run_once_whatever_the_error_is_called() {
    let conn = connect("raises").await;
    let mut changes = conn.state_changes();
    for (script, code) in [
        (&RAISES_BUSY, Some("BUSY")),
        (&RAISES_TEXT, None),
        (&RAISES_UNKNOWN, Some("NOSCRIPT")),
        (&RAISES_MOVED, Some("MOVED")),
        (&RAISES_DOWN, Some("CLUSTERDOWNX")),
    ] {
        let key = script.name();
        for runs in 1..=3 {
            let err = conn.script(script).key(key).run::<()>().await.unwrap_err();
            assert_eq!((err.kind(), err.code()), (ErrorKind::Server, code), "{key}: {err:?}");
            assert!(!err.is_retryable(), "{key}: {err:?}");
            assert_eq!(conn.count(key).await.unwrap(), Some(runs), "{key}");
        }
    }
    assert_eq!(conn.state(), State::Connected);
    drop(conn);
    while let Some(change) = changes.next().await {
        assert_eq!(change.current, State::End, "the link never broke: {change:?}");
    }
}
