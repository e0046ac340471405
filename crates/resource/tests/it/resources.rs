use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redbrick_core_conn::{Config, Conn, Registry, Ttl};
use redbrick_resource::{DEFAULT_ALIAS, Error, Record, Resource, Resources};
use redbrick_testkit::Server;
use serde::{Deserialize, Serialize};

use crate::{User, user};

#[derive(Deserialize, Serialize)]
struct Order {
    id: String,
}

impl Record for Order {
    const NAME: &'static str = "orders";

    fn id(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
}

#[tokio::test]
async fn resources_are_found_by_alias_and_type_each_in_its_database() {
    let server = Server::start().unwrap();
    let conns = Arc::new(Registry::new());
    conns.connect(DEFAULT_ALIAS, server.url()).await.unwrap();
    let other = Config::builder().url(server.url()).database(1);
    conns.connect("redis-orders", other).await.unwrap();
    let resources = Resources::new(Arc::clone(&conns));

    resources.get::<User>(DEFAULT_ALIAS).unwrap().create(&user("ada")).await.unwrap();
    let order = Order { id: "7".to_owned() };
    resources.get::<Order>("redis-orders").unwrap().create(&order).await.unwrap();

    assert!(!resources.get::<Order>(DEFAULT_ALIAS).unwrap().exists("7").await.unwrap());
    assert!(resources.get::<Order>("redis-orders").unwrap().exists("7").await.unwrap());
    assert!(!resources.get::<User>("redis-orders").unwrap().exists("ada").await.unwrap());
    assert!(resources.get::<User>("redis-nowhere").is_none());
    assert!(resources.conns().get(DEFAULT_ALIAS).is_some());
}

#[tokio::test]
async fn a_constructor_makes_it_once_from_the_connection_of_its_alias() {
    let server = Server::start().unwrap();
    let conns = Arc::new(Registry::new());
    let resources = Resources::new(Arc::clone(&conns));
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let make = move |conn| {
        counted.fetch_add(1, Ordering::SeqCst);
        Resource::<User>::builder(conn).time_to_live(Duration::from_secs(60)).build()
    };
    resources.register_with("redis-main", make.clone()).unwrap();
    assert!(resources.get::<User>("redis-main").is_none(), "there is no such connection yet");
    let taken = resources.register_with("redis-main", make).unwrap_err();
    assert!(matches!(taken, Error::AliasTaken), "{taken:?}");

    conns.connect("redis-main", server.url()).await.unwrap();
    for _ in 0..3 {
        resources.get::<User>("redis-main").unwrap().save(&user("ada")).await.unwrap();
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
    let users = resources.get::<User>("redis-main").unwrap();
    assert!(matches!(users.conn().ttl(users.key("ada")).await.unwrap(), Ttl::Expires(_)));
}

#[tokio::test]
async fn one_that_is_inserted_is_found_until_it_is_removed() {
    let conn = Conn::connect_lazy("redis://127.0.0.1:1").unwrap();
    let resources = Resources::new(Arc::new(Registry::new()));
    let users = Resource::<User>::builder(conn).name("special").build();

    resources.insert("any name", users.clone()).unwrap();
    let taken = resources.insert("any name", users).unwrap_err();
    assert!(matches!(taken, Error::AliasTaken), "{taken:?}");
    assert_eq!(resources.get::<User>("any name").unwrap().name(), "special");
    assert!(resources.get::<Order>("any name").is_none(), "of another type");
    assert!(resources.remove::<User>("any name") && !resources.remove::<User>("any name"));
    assert!(resources.get::<User>("any name").is_none());
}

#[tokio::test]
async fn a_constructor_that_panics_leaves_the_others_alone() {
    let conns = Arc::new(Registry::new());
    conns.insert("redis", Conn::connect_lazy("redis://127.0.0.1:1").unwrap()).unwrap();
    let resources = Arc::new(Resources::new(conns));
    resources
        .register_with::<User, _>("redis", |_| panic!("this panic is part of the test"))
        .unwrap();

    let asking = Arc::clone(&resources);
    tokio::spawn(async move { asking.get::<User>("redis") }).await.unwrap_err();
    assert!(resources.get::<Order>("redis").is_some());
    assert!(resources.remove::<User>("redis") && resources.get::<User>("redis").is_some());
}

#[tokio::test]
async fn a_resource_follows_the_connection_of_its_alias() {
    let servers = [Server::start().unwrap(), Server::start().unwrap()];
    let conns = Arc::new(Registry::new());
    let resources = Resources::new(Arc::clone(&conns));
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    resources
        .register_with("redis", move |conn| {
            counted.fetch_add(1, Ordering::SeqCst);
            Resource::<User>::builder(conn).name("mine").build()
        })
        .unwrap();
    for (n, server) in servers.iter().enumerate() {
        conns.connect("redis", server.url()).await.unwrap();
        let users = resources.get::<User>("redis").unwrap();
        assert!(!users.exists("ada").await.unwrap(), "on its own server");
        users.create(&user("ada")).await.unwrap();
        let again = resources.get::<User>("redis").unwrap();
        assert_eq!((again.name(), made.load(Ordering::SeqCst)), ("mine", n + 1));
        resources.get::<Order>("redis").unwrap().create(&Order { id: "7".into() }).await.unwrap();

        conns.remove("redis").unwrap().close(Duration::from_secs(5)).await;
        assert!(resources.get::<User>("redis").is_none(), "its connection is gone");
        assert!(resources.get::<Order>("redis").is_none(), "its connection is gone");
    }
}
