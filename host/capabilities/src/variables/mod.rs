//! `spin:variables@3.0.0` and, for components of Spin 2 and 3, `fermyon:spin/variables@2.0.0`: the values that the manifest gives a component.

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

mod earlier {
    wasmtime::component::bindgen!({
        world: "fnhost:earlier/variables2",
        path: "capabilities/wit-v2-v3",
        imports: { default: async | trappable },
    });
}

use bindings::spin::variables::variables::{self as interface, Error};
use earlier::fermyon::spin::variables as interface2;

/// The variables of one component by name.
pub type Variables = BTreeMap<String, Secret>;

struct Binding;

impl HasData for Binding {
    type Data<'a> = &'a mut CallState;
}

impl interface::Host for CallState {}

impl<T: Send + 'static> interface::HostWithStore<T> for Binding {
    async fn get(accessor: &Accessor<T, Self>, name: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(accessor.with(|mut access| value(access.get(), &name).map_err(Error::Undefined)))
    }
}

impl interface2::Host for CallState {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, interface2::Error>> {
        Ok(value(self, &name).map_err(interface2::Error::Undefined))
    }
}

fn value(state: &CallState, name: &str) -> Result<String, String> {
    match state.variables().get(name) {
        Some(value) => Ok(value.expose().to_owned()),
        None => Err(format!(
            "no variable \"{name}\"; add it to [component.{}.variables] in spin.toml",
            state.component()
        )),
    }
}

/// Links both versions.
pub(super) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    interface::add_to_linker::<CallState, Binding>(linker, |state| state)?;
    interface2::add_to_linker::<CallState, Binding>(linker, |state| state)
}
