//! Functions whose results are remembered.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Error, Expr, Result, spanned::Spanned as _};

use crate::{
    function::{Function, Kind, own, quiet},
    settings::Settings,
};

const KNOWN: [&str; 10] =
    ["cache", "key", "ttl", "tags", "stale", "when", "ignore", "cache_none", "map_err", "in_impl"];

const NO_KEY: &str =
    "say what the key is: `key = \"product:{id}\"`, with all that the result depends on";

pub(crate) fn cached(settings: TokenStream, function: &Function) -> Result<TokenStream> {
    remembers(&Settings::parse(settings, &KNOWN)?, function, &quote! { get_or_load })
}

pub(crate) fn warms(settings: TokenStream, function: &Function) -> Result<TokenStream> {
    remembers(&Settings::parse(settings, &KNOWN)?, function, &quote! { refresh })
}

/// Asks a cache by one of its verbs, whose loader is the function.
fn remembers(settings: &Settings, function: &Function, verb: &TokenStream) -> Result<TokenStream> {
    let Settings { when, ttl, stale, tags, .. } = settings;
    let (of, key) = (settings.cache()?, settings.key(NO_KEY)?);
    function.can_be_remembered()?;
    let kind = match function.kind() {
        Kind::Value | Kind::Result if settings.cache_none => {
            let what =
                "`cache_none` is for functions that return an `Option`, or a `Result` of one";
            return Err(Error::new_spanned(&function.0.sig.output, what));
        }
        Kind::Option if settings.cache_none => Kind::Value,
        Kind::ResultOfOption if settings.cache_none => Kind::Result,
        kind => kind,
    };
    let has_error = kind.is_result();
    let map_err = settings.map_err(has_error)?;
    let arguments = function.arguments()?;
    settings.check_arguments(&[&*function.generics(), &*arguments].concat())?;
    let call = function.call(&arguments, settings.in_impl);
    let (cache, name, failed) = (own("cache"), own("name"), own("failed"));
    let (key, tags) = (key.bytes(&cache), tags.iter().map(|tag| tag.bytes(&cache)));
    let terms = own("tags");
    let tags =
        quote! { let #terms: ::std::vec::Vec<::std::vec::Vec<u8>> = ::std::vec![#(#tags),*]; };
    let ttl = ttl.as_ref().map(|ttl| quote! { .time_to_live(#ttl) });
    let stale = stale.as_ref().map(|stale| quote! { .stale_while_revalidate(#stale) });
    let load = load(kind, &call, &cache, &failed);
    let end = end(kind, &call, &cache, map_err);
    let borrowed = function.borrowed(&arguments);
    let asks = own("asks");
    let when = when.as_ref().map(|when| {
        // Of its own span, so that the compiler says of it what is wrong with it.
        let asked = quote_spanned! { when.span()=> let #asks: bool = #when; };
        quote! {
            #asked
            if !#asks {
                #borrowed
                return #call;
            }
        }
    });
    let got = own("got");
    // What the function's own error is kept in for its caller.
    let (kept, lent, ended) = match has_error {
        true => (
            Some(quote! { let mut #failed = ::core::option::Option::None; }),
            Some(quote! { let #failed = &mut #failed; }),
            quote! { (#got, #failed) },
        ),
        false => (None, None, quote! { #got }),
    };
    let quiet = quiet();
    let (attributes, vis, sig) = (function.attributes(), &function.0.vis, function.signature());
    let uncached = function.uncached(&arguments);
    Ok(quote! {
        #(#attributes)*
        #[#quiet]
        #vis #sig {
            #when
            let #cache = &#of;
            let #name = #key;
            #tags
            #borrowed
            #kept
            let #got = {
                #lent
                #cache.#verb(&#name, move || async move { #load }) #ttl #stale .tags(#terms).await
            };
            match #ended { #end }
        }

        #uncached
    })
}

/// What the loader returns. An error is kept for its caller, since the cache gives it to others.
fn load(kind: Kind, call: &TokenStream, cache: &Ident, failed: &Ident) -> TokenStream {
    match kind {
        Kind::Value => quote! { #cache.macro_value(#call) },
        Kind::Option => quote! { #cache.macro_some(#call) },
        Kind::Result => quote! { #cache.macro_ok(#call, #failed) },
        Kind::ResultOfOption => quote! {
            #cache.macro_ok(#call, #failed).and_then(|value| #cache.macro_some(value))
        },
    }
}

/// The arms that make what is returned of what the cache has said, and of the error that was kept.
fn end(kind: Kind, call: &TokenStream, cache: &Ident, map_err: Option<&Expr>) -> TokenStream {
    let (value, error) = (own("value"), own("error"));
    let (ok, err) = (quote! { ::core::result::Result::Ok }, quote! { ::core::result::Result::Err });
    let (some, none) =
        (quote! { ::core::option::Option::Some }, quote! { ::core::option::Option::None });
    let is_absent = quote! { #cache.macro_is_absent(&#error) };
    let otherwise = match map_err {
        Some(map_err) => quote! { #err((#map_err)(#error)) },
        None => quote! {{
            #cache.macro_goes_without(&#error);
            #call
        }},
    };
    match kind {
        Kind::Value => quote! {
            #ok(#value) => #value,
            #err(#error) => #otherwise,
        },
        Kind::Option => quote! {
            #ok(#value) => #some(#value),
            #err(#error) if #is_absent => #none,
            #err(#error) => #otherwise,
        },
        Kind::Result => quote! {
            (#ok(#value), _) => #ok(#value),
            (#err(_), #some(#error)) => #err(#error),
            (#err(#error), #none) => #otherwise,
        },
        Kind::ResultOfOption => quote! {
            (#ok(#value), _) => #ok(#some(#value)),
            (#err(_), #some(#error)) => #err(#error),
            (#err(#error), #none) if #is_absent => #ok(#none),
            (#err(#error), #none) => #otherwise,
        },
    }
}
