//! `spin:variables@3.0.0`: the values that the manifest gives a component.

use std::collections::BTreeMap;

use wasmtime::component::{Accessor, HasData, Linker};

use crate::engine::CallState;
use crate::manifest::Secret;

mod bindings {
    wasmtime::component::bindgen!({
        inline: "
            package spin:variables@3.0.0;

            interface variables {
                variant error {
                    invalid-name(string),
                    undefined(string),
                    provider(string),
                    other(string),
                }
                get: async func(name: string) -> result<string, error>;
            }

            world host {
                import variables;
            }
        ",
        world: "host",
        imports: { default: async | store | trappable },
    });
}

use bindings::spin::variables::variables::{self as interface, Error};

/// The variables of one component by name.
pub type Variables = BTreeMap<String, Secret>;

struct Binding;

impl HasData for Binding {
    type Data<'a> = &'a mut CallState;
}

impl interface::Host for CallState {}

impl<T: Send + 'static> interface::HostWithStore<T> for Binding {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(
            accessor.with(|mut access| match access.get().variables().get(&name) {
                Some(value) => Ok(value.expose().to_owned()),
                None => Err(Error::Undefined(format!(
                    "no variable \"{name}\"; add it to [component.{}.variables] in spin.toml",
                    access.get().component()
                ))),
            }),
        )
    }
}

/// Links the interface.
pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    interface::add_to_linker::<CallState, Binding>(linker, |state| state)
}
