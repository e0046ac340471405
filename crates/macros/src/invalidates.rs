//! Functions that invalidate.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Result;

use crate::{
    function::{Function, own},
    settings::{Settings, missing},
};

const KNOWN: [&str; 7] = ["cache", "keys", "tags", "patterns", "when", "before", "map_err"];

pub(crate) fn invalidates(settings: TokenStream, function: &Function) -> Result<TokenStream> {
    let settings = Settings::parse(settings, &KNOWN)?;
    let of = settings.cache()?;
    let Settings { keys, tags, patterns, when, before, .. } = &settings;
    if keys.is_empty() && tags.is_empty() && patterns.is_empty() {
        return Err(missing(
            "say what is to be invalidated: `keys(…)`, `tags(…)` or `patterns(…)`",
        ));
    }
    let has_result = function.kind().is_result();
    let (cache, plan, result, error) = (own("cache"), own("plan"), own("result"), own("error"));
    let keys = keys.iter().map(|key| key.bytes(&cache));
    let tags = tags.iter().map(|tag| tag.bytes(&cache));
    let patterns =
        patterns.iter().map(|pattern| pattern.pattern(&cache)).collect::<Result<Vec<_>>>()?;
    let named = quote! {
        (::std::vec![#(#keys),*], ::std::vec![#(#tags),*], ::std::vec![#(#patterns),*])
    };
    // Put together before the function takes its arguments.
    let planned = match when {
        Some(when) => quote! { (#when).then(|| #named) },
        None => quote! { ::core::option::Option::Some(#named) },
    };
    let failed = match settings.map_err(has_result)? {
        Some(map_err) => quote! { return ::core::result::Result::Err((#map_err)(#error)); },
        None => quote! { #cache.macro_owes(&#error); },
    };
    let invalidated = quote! {
        if let ::core::option::Option::Some(#plan) = #plan {
            if let ::core::result::Result::Err(#error) = #cache.macro_invalidate(#plan).await {
                #failed
            }
        }
    };
    let (attributes, inner) = (function.attributes(), function.inner_attributes());
    let (vis, sig) = (&function.0.vis, &function.0.sig);
    let statements = &function.0.block.stmts;
    let begin = quote! {
        let #cache = (#of).clone();
        let #plan = #planned;
    };
    if *before {
        return Ok(quote! {
            #(#attributes)* #vis #sig {
                #(#inner)*
                { #begin #invalidated }
                #(#statements)*
            }
        });
    }
    let expected = function.expected();
    let output = function.output().map(|output| quote! { : #output });
    let invalidated = match has_result {
        true => quote! { if #result.is_ok() { #invalidated } },
        false => invalidated,
    };
    Ok(quote! {
        #(#attributes)* #vis #sig {
            #(#inner)*
            #begin
            let #result #output = async move { #expected #(#statements)* }.await;
            #invalidated
            #result
        }
    })
}
