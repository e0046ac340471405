//! Functions that run under a lock.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Error, Result, ReturnType, spanned::Spanned as _};

use crate::{
    function::{Function, own},
    settings::{Settings, Wait},
};

const KNOWN: [&str; 6] = ["locks", "key", "ttl", "wait", "fence", "map_err"];

const NO_KEY: &str =
    "say what the lock is called: `key = \"inventory:{id}\"`, or another expression of bytes";

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(crate) fn locked(settings: TokenStream, function: &Function) -> Result<TokenStream> {
    let settings = Settings::parse(settings, &KNOWN)?;
    let (of, key) = (settings.locks()?, settings.key(NO_KEY)?);
    let (vis, sig) = (&function.0.vis, &function.0.sig);
    let returned = match &sig.output {
        ReturnType::Type(_, output) if function.kind().is_result() => output,
        _ => {
            let what = "this attribute stands on a function that returns a `Result`, so that it can say that the lock was not had";
            return Err(Error::new_spanned(sig, what));
        }
    };
    // It stands at the author's text, where the compiler then points, and is no text of the author's, for clippy.
    let at = |span: Span| span.resolved_at(Span::mixed_site());
    let of = quote_spanned! { at(of.span())=> (#of).macro_locks() };
    let (locks, name, lock) = (own("locks"), own("name"), own("lock"));
    let (result, error) = (own("result"), own("error"));
    if let Some(ttl) = &settings.ttl {
        ttl.check(SHORTEST..=LONGEST, "a lease is from 10 milliseconds to 366 days")?;
    }
    let lease = settings.ttl.as_ref().map(|ttl| quote! { .lease(#ttl) });
    let wait = settings.wait.as_ref().map(|wait| match wait {
        Wait::Never => quote! { .wait(#locks.macro_never()) },
        Wait::Forever => quote! { .wait(#locks.macro_forever()) },
        Wait::For(time) => quote! { .wait(#locks.macro_wait(#time)) },
    });
    let fence = settings.fence.as_ref().map_or_else(|| quote! { _ }, |fence| quote! { #fence });
    let failed = match settings.map_err(true)? {
        Some(map_err) => quote! { (#map_err)(#error) },
        None => quote_spanned! { at(returned.span())=> ::core::convert::From::from(#error) },
    };
    let key = key.bytes(&locks);
    let (attributes, inner) = (function.attributes(), function.inner_attributes());
    let (expected, statements) = (function.expected(), &function.0.block.stmts);
    // What is said of the lock is had before the body takes the arguments. The body is a block of its own: it may begin with items.
    Ok(quote! {
        #(#attributes)* #vis #sig {
            #(#inner)*
            let #locks = #of;
            let #name = #key;
            let #lock = #locks.lock(#name) #lease #wait;
            let #result = #lock.with(move |#fence| async move { #expected { #(#statements)* } }).await;
            match #locks.macro_held(#result) {
                ::core::result::Result::Ok(#result) => #result,
                ::core::result::Result::Err(#error) => ::core::result::Result::Err(#failed),
            }
        }
    })
}
