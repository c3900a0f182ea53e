-- The products of the demo catalogue (docs/decisions/0001-catalogue.md), prices in minor units.
--
-- fnhost runs this once, as the owner role, with search_path = inventory.

INSERT INTO product (sku, name, price, currency, on_hand) VALUES
    ('COFFEE-1KG', 'Coffee beans, 1 kg', 1890, 'EUR', 100000),
    ('TEA-250G', 'Green tea, 250 g', 1250, 'EUR', 100000),
    ('MUG-BLUE', 'Mug, blue', 990, 'EUR', 100000),
    ('MUG-RED', 'Mug, red', 990, 'EUR', 100000),
    ('KETTLE', 'Kettle', 4900, 'EUR', 5000),
    ('GRINDER', 'Coffee grinder', 12900, 'EUR', 1000),
    ('PRESS', 'French press', 3450, 'EUR', 5000),
    ('FILTERS-100', 'Paper filters, 100 pieces', 490, 'EUR', 100000),
    ('SCALE', 'Kitchen scale', 2790, 'EUR', 2000),
    ('LAST-TEN', 'Hand-made cup, ten pieces only', 8900, 'EUR', 10),
    ('OUT-OF-STOCK', 'Espresso machine, sold out', 64900, 'EUR', 0),
    ('MOON', 'The Moon', 900000000000000000, 'EUR', 1)
ON CONFLICT (sku) DO NOTHING;
