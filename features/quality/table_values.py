PATH = __import__("pathlib").Path(__file__).with_name("table_values.json")
