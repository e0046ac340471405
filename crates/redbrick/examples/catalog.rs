//! A web service whose products come from its process, from Redis or from the database, and that says in headers which it was.
//!
//! ```sh
//! REDIS_URL=redis://localhost:6379 cargo run --package redbrick --example catalog --features cache,local,macros
//! curl -i localhost:3000/product/7
//! curl -i -X PUT localhost:3000/product/7/brighter
//! ```
//!
//! `Cache-Status` (RFC 9211) says where a product came from, `X-Cache-Hit-Rate` how many reads were hits so far.

#![expect(clippy::print_stderr, reason = "it stands for the log of a service")]

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{AppendHeaders, IntoResponse, Response},
    routing::{get, put},
};
use redbrick::{
    cache::{Fetched, Local, Origin, cached, invalidates},
    prelude::*,
};

/// Where products come from.
#[derive(Default)]
struct Database(Mutex<HashMap<u64, String>>);

#[derive(Debug)]
struct NotFound;

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there is no such product")
    }
}

impl std::error::Error for NotFound {}

struct Catalog {
    products: Cache<Arc<str>>,
    database: Database,
}

impl Catalog {
    async fn load(&self, id: u64) -> Result<Arc<str>, NotFound> {
        let names = self.database.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&id).map(|name| name.as_str().into()).ok_or(NotFound)
    }

    /// A product, and where it came from.
    async fn product(&self, id: u64) -> Result<Fetched<Arc<str>>, redbrick::cache::Error> {
        let key = format!("product:{id}");
        self.products.get_or_load(key, || self.load(id)).tags(["products"]).with_origin().await
    }

    /// A list of all products; it is invalidated with any of them.
    #[cached(cache = self.products, key = "list", ttl = "10m", tags("products"))]
    async fn list(&self) -> Arc<str> {
        let names = self.database.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.values().cloned().collect::<Vec<_>>().join("\n").into()
    }

    #[invalidates(cache = self.products, tags("products"))]
    async fn rename(&self, id: u64, name: String) -> Result<(), NotFound> {
        let mut names = self.database.0.lock().unwrap_or_else(PoisonError::into_inner);
        *names.get_mut(&id).ok_or(NotFound)? = name;
        Ok(())
    }
}

async fn product(State(catalog): State<Arc<Catalog>>, Path(id): Path<u64>) -> Response {
    match catalog.product(id).await {
        Ok(Fetched { value, origin }) => {
            let status = match origin {
                Origin::Local => "process; hit",
                Origin::Cached => "redis; hit",
                Origin::Stale => "redis; hit; detail=stale",
                Origin::Bypassed => "redis; fwd=bypass",
                _ => "redis; fwd=miss",
            };
            let rate = catalog.products.statistics().hit_rate().unwrap_or_default();
            let headers =
                [("Cache-Status", status.to_owned()), ("X-Cache-Hit-Rate", format!("{rate:.3}"))];
            (AppendHeaders(headers), value.to_string()).into_response()
        }
        Err(error) if error.loader_error().is_some_and(|it| it.is::<NotFound>()) => {
            (StatusCode::NOT_FOUND, "there is no such product").into_response()
        }
        Err(error) => {
            // Where a service has its log.
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            eprintln!("{error}: {cause}");
            (StatusCode::SERVICE_UNAVAILABLE, "try again in a moment").into_response()
        }
    }
}

async fn list(State(catalog): State<Arc<Catalog>>) -> String {
    catalog.list().await.to_string()
}

async fn rename(
    State(catalog): State<Arc<Catalog>>,
    Path((id, name)): Path<(u64, String)>,
) -> Response {
    match catalog.rename(id, name).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(NotFound) => (StatusCode::NOT_FOUND, "there is no such product").into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let conn = Conn::from_env().await?;
    let products = Cache::builder(conn, "products").local(Local::new()).build()?;
    let names = (1..=9).map(|id| (id, format!("lamp {id}"))).collect();
    let catalog = Catalog { products, database: Database(Mutex::new(names)) };
    let router = Router::new()
        .route("/", get(list))
        .route("/product/{id}", get(product))
        .route("/product/{id}/{name}", put(rename))
        .with_state(Arc::new(catalog));
    axum::serve(tokio::net::TcpListener::bind("127.0.0.1:3000").await?, router).await?;
    Ok(())
}
