#![doc = include_str!("../README.md")]

mod function;
mod invalidates;
mod locked;
mod remembers;
mod settings;
mod text;

use proc_macro::TokenStream;
use syn::{Error, Result};

use function::Function;

/// Remembers what an async function or method returns in a cache, and calls it only where nothing is there.
///
/// ```text
/// #[cached(cache = self.products, key = "product:{id}", ttl = "1h", tags("products"))]
/// async fn product(&self, id: u64) -> Result<Product, sqlx::Error> { … }
/// ```
///
/// It is a `get_or_load` of that cache: one call for all who ask, in the whole fleet, with what that promises of invalidations. Beside
/// the function stands another one of its name and `_uncached`, which is the function as it was written. It is called with clones of the
/// arguments, so these need `Clone`, `Send` and `Sync`, also a `self` that is no reference. What stands in braces needs `Display`.
///
/// | setting | what it says | default |
/// |---|---|---|
/// | `cache = expression` | the cache, of values of the type that is remembered; `self` and the arguments are at hand | none: needed |
/// | `key = "product:{id}"` | the key; in braces stand expressions, whose text is escaped (by percent signs, all but ASCII letters, digits and `-_.~@+`), so that no two lists of arguments share a key. Or an expression of any bytes, as `key = product_key(id)` | none: needed |
/// | `ttl = "1h"` | how long an entry lives; or an expression | that of the cache |
/// | `tags("products", "user:{user.id}")` | its tags; texts or expressions | none |
/// | `stale = "1m"` | for how long it is served past its time to others while the caller who finds out loads it anew, `"0s"` for never; or an expression | that of the cache |
/// | `when = expression` | whether the cache is asked at all for these arguments | always |
/// | `ignore(a, b)` | arguments, and generic types and constants, that are not in the key: the result does not depend on them | none; one that is neither there nor in `cache` is refused |
/// | `cache_none` | remembers also that there is nothing; the cache is one of `Option`s then | `None` is not remembered |
/// | `map_err = function` | makes the cache's error one of the function | see below |
/// | `in_impl` | the function has no `self` and stands in an `impl` block | it stands in a module, or has a `self` |
///
/// Of a `Result` only `Ok` is remembered, of an `Option` and a `Result` of one only `Some`, and the type of the cache is what is within.
/// `Result` and `Option` are told by their names. What is remembered stays where a later call returns an `Err` or a `None`.
///
/// **When it fails.** Where Redis is away, the function is called. Its own error is returned as it is. Whoever waited for a call of
/// another task that failed, or that took longer than the `load_timeout`, calls the function too; a warning says so, at most once a
/// second. With `map_err` all errors of the cache are returned in place of that, also where it is to fail without Redis (`OnError::Fail`).
#[proc_macro_attribute]
pub fn cached(settings: TokenStream, item: TokenStream) -> TokenStream {
    expand(settings, item, remembers::cached)
}

/// Calls an async function or method, whatever a cache has, and has it remember what it returns.
///
/// ```text
/// #[warms(cache = self.products, key = "product:{id}")]
/// async fn reload(&self, id: u64) -> Result<Product, sqlx::Error> { … }
/// ```
///
/// It is a `refresh` of that cache, so what is invalidated meanwhile is not stored. Where another process loads the key just then, its
/// load counts, and the function is not called. Where it returns an `Err`, or a `None` that is not remembered, what was there stays: invalidate
/// that. It takes the settings of [`macro@cached`], and means the same by them.
#[proc_macro_attribute]
pub fn warms(settings: TokenStream, item: TokenStream) -> TokenStream {
    expand(settings, item, remembers::warms)
}

/// Invalidates entries when an async function or method has changed what they come from.
///
/// ```text
/// #[invalidates(cache = self.products, keys("product:{id}"), tags("products"), patterns("page:*"))]
/// async fn rename(&self, id: u64, name: &str) -> Result<(), sqlx::Error> { … }
/// ```
///
/// Where the function returns a `Result`, it does so after an `Ok` alone. Texts are those of [`macro@cached`], and are put together before
/// the function is called; in a pattern, a `*` outside of braces stands for any run of bytes.
///
/// | setting | what it says | default |
/// |---|---|---|
/// | `cache = expression` | the cache | none: needed |
/// | `keys("product:{id}")`, `tags(…)`, `patterns(…)` | what is invalidated; texts or expressions | at least one is needed |
/// | `when = expression` | whether anything is invalidated for these arguments | always |
/// | `before` | invalidates before the function is called, whatever comes of it | after it |
/// | `map_err = function` | makes the cache's error one of the function, which then fails though it was done; with `before` it is not called then | see below |
///
/// **When it fails.** What Redis could not be asked to invalidate counts no more in this process from then on, and is invalidated as soon as
/// Redis can be asked; a warning says so, at most once a second. What the function returns is returned. A missing right, and a pattern
/// that is an expression and wrong, invalidate nothing: have `map_err` tell you.
///
/// Give `cached` and `invalidates` two functions: of two attributes on one function, the upper one stands within the lower, so that a hit would
/// not invalidate.
///
/// **When it is dropped** before the function has ended, nothing is invalidated, although the function may have changed something; `before`
/// does not help, since others can load meanwhile. Have changes that must not be dropped run in a task of their own.
#[proc_macro_attribute]
pub fn invalidates(settings: TokenStream, item: TokenStream) -> TokenStream {
    expand(settings, item, invalidates::invalidates)
}

/// Runs an async function or method under a lock that processes share.
///
/// ```text
/// #[locked(locks = self.locks, key = "inventory:{id}", ttl = "30s", wait = "5s")]
/// async fn reserve(&self, id: u64) -> Result<Reservation, ShopError> { … }
/// ```
///
/// It is `locks.lock(key).lease(ttl).wait(wait).with(…)` with the body of the function, with what that promises: the lock is renewed while the
/// body runs, and released when it has returned, has panicked or is dropped. The body runs in the future of the function and may borrow its
/// arguments, which need nothing but `Display` where they stand in braces. That future is `Send` where that of the body is.
///
/// | setting | what it says | default |
/// |---|---|---|
/// | `locks = expression` | the `Locks`; `self` and the arguments are at hand | none: needed |
/// | `key = "inventory:{id}"` | the name of the lock; in braces stand expressions, whose text is escaped (by percent signs, all but ASCII letters, digits and `-_.~@+`), so that no two lists of arguments share a lock. Or an expression of any bytes, as `key = shelf_key(id)`. Arguments that are not in it share the lock | none: needed |
/// | `ttl = "30s"` | the lease, after which the lock is free where its process is gone, from `"10ms"` to `"366days"`; or an expression | that of the `Locks` |
/// | `wait = "5s"` | how long to wait in line while somebody else has the lock, `"never"`, or `"forever"`; or an expression of a `Duration` or a `Wait` | that of the `Locks` |
/// | `fence = number` | the name under which the body sees the fence, a `u64` that is higher with each acquisition | it does not see it |
/// | `map_err = function` | makes a `NotHeld` the error of the function | `From<NotHeld>` of that error |
///
/// The function returns a `Result`, which is told by its name. What its body returns is returned as it is. The error is made of a `NotHeld` where the
/// body was not run, as somebody else had the lock until the wait was over (`Busy`) or Redis could not be asked (`Failed`), and where the lock
/// was lost while it ran (`Failed`): the body is then dropped where it waits, and a part of it may be done.
///
/// Locks are not reentrant: a function that calls another one of the same lock waits for itself.
#[proc_macro_attribute]
pub fn locked(settings: TokenStream, item: TokenStream) -> TokenStream {
    expand(settings, item, locked::locked)
}

/// What an attribute makes of a function; where it cannot, the function as it was and what is wrong.
fn expand(
    settings: TokenStream,
    item: TokenStream,
    make: fn(proc_macro2::TokenStream, &Function) -> Result<proc_macro2::TokenStream>,
) -> TokenStream {
    let function: Result<Function> = syn::parse(item.clone());
    let made = function.and_then(|function| make(settings.into(), &function));
    made.unwrap_or_else(|error: Error| {
        let (item, error) = (proc_macro2::TokenStream::from(item), error.into_compile_error());
        // So that its callers are not told that it is missing, nor its author that it is not as it will be.
        let quiet = quote::quote! { allow(unused) };
        quote::quote! { #[#quiet] #item #error }
    })
    .into()
}
