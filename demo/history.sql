-- Two years of orders of the demo catalogue until yesterday: `./dev demo --history`. With a trend, a week, a year, promotions and
-- days without stock; the same for the same day, since the numbers come from a seed.
--
-- Run as the owner of the database. Orders of a customer who does not exist go to the tables that live orders go to; without events,
-- since each would be handled by every function. Inventory's stock stays as it is.

BEGIN;
SELECT setseed(0.42);

-- One load is enough: the days before are there already.
SELECT NOT EXISTS (SELECT FROM orders.orders WHERE user_id = '00000000-0000-7000-8000-00000000d330') AS absent \gset
\if :absent

-- Orders of a day at the beginning, growth in two years, weight of the week-end, weight of December.
CREATE TEMPORARY TABLE shape (sku text, orders float8, growth float8, weekend float8, december float8) ON COMMIT DROP;
INSERT INTO shape VALUES
    ('COFFEE-1KG', 14, 0.5, 1.3, 1.2), ('TEA-250G', 8, 0.2, 1.2, 1.3), ('FILTERS-100', 9, 0.4, 1.1, 1.0),
    ('MUG-BLUE', 5, 0.1, 1.5, 2.2), ('MUG-RED', 4, -0.3, 1.5, 2.2), ('PRESS', 3, 0.3, 1.6, 2.0),
    ('KETTLE', 2, 0.0, 1.4, 1.6), ('GRINDER', 1, 0.6, 1.4, 2.5), ('SCALE', 0.3, 0.0, 1.0, 1.0);

-- The days, and what each product is wanted for on them.
CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
SELECT sku, day,
       -- Ten days without stock, twice in the two years, at another time for each product.
       (back + 37 * number) % 340 < 10 AND sku <> 'SCALE' AS short,
       orders * (1 + growth * (730 - back) / 730.0)
           * CASE WHEN extract(isodow FROM day) >= 6 THEN weekend ELSE 1 END
           * (1 + (december - 1) * exp(-(((extract(doy FROM day)::float8 - 350) / 18) ^ 2)))
           -- A promotion of five days every ten weeks.
           * CASE WHEN (back + 11 * number) % 70 < 5 THEN 1.8 ELSE 1 END
           * (0.6 + 0.8 * random()) AS orders
FROM (SELECT *, row_number() OVER (ORDER BY sku) AS number FROM shape) AS shape,
     LATERAL (SELECT back, (now() AT TIME ZONE 'UTC')::date - back AS day FROM generate_series(730, 1, -1) AS back) AS days
ORDER BY sku, day;

CREATE TEMPORARY TABLE placed ON COMMIT DROP AS
SELECT sku, day, short, 1 + (random() < 0.25)::int AS quantity,
       -- A UUIDv7, whose first 48 bits are the milliseconds since 1970.
       (lpad(to_hex(extract(epoch FROM day)::int8 * 1000 + (random() * 86399999)::int8), 12, '0') || '70008000'
           || lpad(to_hex(row_number() OVER (ORDER BY sku, day, n)), 12, '0'))::uuid AS id
FROM wanted, LATERAL generate_series(1, floor(wanted.orders + random())::int) AS n;

INSERT INTO orders.orders
    (id, user_id, status, version, reserved, authorized, items, total, currency, reason, created_at, updated_at)
SELECT placed.id, '00000000-0000-7000-8000-00000000d330', CASE WHEN short THEN 'REJECTED' ELSE 'CONFIRMED' END, 2,
       NOT short, true,
       jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', quantity, 'unit_price', amount)),
       quantity * amount, currency, CASE WHEN short THEN sku || ' is out of stock' END,
       to_timestamp(('x' || substr(placed.id::text, 1, 8) || substr(placed.id::text, 10, 4))::bit(48)::int8 / 1000.0),
       day + interval '1 day'
FROM placed JOIN orders.price USING (sku);

INSERT INTO forecast.known_order (order_id, version, stage, day, lines, total, refunded)
SELECT id, 2, CASE WHEN short THEN 'ENDED' ELSE 'CONFIRMED' END, day, jsonb_build_object(sku, quantity),
       quantity * amount, 0
FROM placed JOIN orders.price USING (sku);

INSERT INTO forecast.demand (sku, day, units, short)
SELECT sku, day, coalesce(sum(quantity) FILTER (WHERE NOT short), 0), bool_or(short)
FROM placed GROUP BY sku, day
ON CONFLICT (sku, day) DO UPDATE
SET units = demand.units + excluded.units, short = demand.short OR excluded.short;

INSERT INTO forecast.series (sku) SELECT sku FROM shape ON CONFLICT DO NOTHING;
-- Due again, although there was a forecast without the history.
UPDATE forecast.series SET forecast_on = '-infinity' WHERE sku IN (SELECT sku FROM shape);

-- Until the next order tells what there is.
INSERT INTO forecast.stock (sku, on_hand, reserved, as_of)
SELECT sku, on_hand, reserved, (extract(epoch FROM now()) * 1000)::int8 FROM inventory.product WHERE sku IN (SELECT sku FROM shape)
ON CONFLICT DO NOTHING;

SELECT count(*) || ' orders from ' || min(day) || ' to ' || max(day) FROM placed;
\else
\echo 'the history is there already'
\endif
COMMIT;
