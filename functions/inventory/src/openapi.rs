//! The interface of `inventory`, described.

use crate::http::{
    Inventory, ON_HAND_MAX, PRODUCTS_DEFAULT, PRODUCTS_MAX, Product, Products, SetOnHand, unknown,
};
use contract::openapi::sku;
use fnhost_sdk::openapi::{Api, Call, HttpMethod, page, text};
use fnhost_sdk::problem::Problem;
use serde_json::{Value, json};

/// The calls of `inventory`.
#[must_use]
pub fn api() -> Api {
    // What comes back from a cancelled order may be more than can be set.
    let units = || json!({ "minimum": 0 });
    let api = contract::openapi::api("inventory", "Products, and the stock of them")
        .call(HttpMethod::Get, "/products", products())
        .call(HttpMethod::Get, "/products/{sku}", product())
        .call(HttpMethod::Get, "/inventory/{sku}", stock())
        .call(HttpMethod::Put, "/inventory/{sku}", set_stock())
        .limit::<Product>("sku", sku())
        .limit::<Product>("available", units())
        .limit::<Inventory<'_>>("sku", sku())
        .limit::<SetOnHand>("on_hand", json!({ "minimum": 0, "maximum": ON_HAND_MAX }));
    ["on_hand", "reserved", "available"]
        .into_iter()
        .fold(api, |api, field| api.limit::<Inventory<'_>>(field, units()))
}

fn kettle() -> Value {
    let price = json!({ "amount": 4900, "currency": "EUR" });
    json!({ "sku": "KETTLE", "name": "Kettle", "price": price, "available": 5000 })
}

fn products() -> Call {
    let one = json!({ "products": [kettle()], "next_cursor": "KETTLE" });
    Call::new("products", "The catalogue, by SKU")
        .query("limit", "Products in the answer at most", page(PRODUCTS_DEFAULT, PRODUCTS_MAX))
        .query("cursor", "The `next_cursor` of the page before", text())
        .answers::<Products>(200, "A page of products", &one)
        .refuses("The limit is none", &Problem::invalid("limit", format!("1 to {PRODUCTS_MAX}")))
}

fn product() -> Call {
    of_product("product", "A product").answers::<Product>(200, "The product", &kettle())
}

fn stock() -> Call {
    of_product("stock", "The stock of a product").answers::<Inventory<'_>>(200, "Its units", &units(5000))
}

fn units(on_hand: i64) -> Value {
    json!({ "sku": "KETTLE", "on_hand": on_hand, "reserved": 0, "available": on_hand })
}

fn of_product(id: &str, summary: &str) -> Call {
    Call::new(id, summary)
        .path("sku", "The product", {
            let mut keywords = sku();
            keywords["examples"] = json!(["KETTLE"]);
            keywords
        })
        .refuses("There is no such product", &unknown())
}

fn set_stock() -> Call {
    let range = format!("between 0 and {ON_HAND_MAX} units are possible");
    of_product("setStock", "Set how many units of a product there are")
        .about("Needs the role admin.")
        .signed_in()
        .body::<SetOnHand>(json!({ "on_hand": 4000 }))
        .answers::<Inventory<'_>>(200, "Its units from now on", &units(4000))
        .refuses("The caller is no admin", &Problem::forbidden("setting the stock needs the role admin"))
        .refuses(
            "More units are reserved for orders",
            &Problem::conflict("3 units are reserved for orders").with_field("on_hand"),
        )
        .refuses("The number is none, or out of range", &Problem::invalid("on_hand", range))
}
