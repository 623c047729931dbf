package cel

import "github.com/xenoserver/xeno/search"

// places are the cities that within() knows by name, to a tenth of a degree.
func places() map[string]search.Place {
	return map[string]search.Place{
		"Accra": {Lat: 5.6, Lon: -0.2}, "Amsterdam": {Lat: 52.4, Lon: 4.9}, "Athens": {Lat: 38.0, Lon: 23.7},
		"Atlanta": {Lat: 33.7, Lon: -84.4}, "Auckland": {Lat: -36.8, Lon: 174.8}, "Bangalore": {Lat: 13.0, Lon: 77.6},
		"Bangkok": {Lat: 13.8, Lon: 100.5}, "Barcelona": {Lat: 41.4, Lon: 2.2}, "Beijing": {Lat: 39.9, Lon: 116.4},
		"Berlin": {Lat: 52.5, Lon: 13.4}, "Bogota": {Lat: 4.7, Lon: -74.1}, "Boston": {Lat: 42.4, Lon: -71.1},
		"Brussels": {Lat: 50.8, Lon: 4.4}, "Bucharest": {Lat: 44.4, Lon: 26.1}, "Budapest": {Lat: 47.5, Lon: 19.0},
		"Buenos Aires": {Lat: -34.6, Lon: -58.4}, "Cairo": {Lat: 30.0, Lon: 31.2}, "Cambridge": {Lat: 52.2, Lon: 0.1},
		"Cape Town": {Lat: -33.9, Lon: 18.4}, "Chicago": {Lat: 41.9, Lon: -87.6}, "Copenhagen": {Lat: 55.7, Lon: 12.6},
		"Dallas": {Lat: 32.8, Lon: -96.8}, "Delhi": {Lat: 28.6, Lon: 77.2}, "Denver": {Lat: 39.7, Lon: -105.0},
		"Dubai": {Lat: 25.2, Lon: 55.3}, "Dublin": {Lat: 53.3, Lon: -6.3}, "Frankfurt": {Lat: 50.1, Lon: 8.7},
		"Helsinki": {Lat: 60.2, Lon: 24.9}, "Hong Kong": {Lat: 22.3, Lon: 114.2}, "Istanbul": {Lat: 41.0, Lon: 29.0},
		"Jakarta": {Lat: -6.2, Lon: 106.8}, "Johannesburg": {Lat: -26.2, Lon: 28.0}, "Kyiv": {Lat: 50.5, Lon: 30.5},
		"Lagos": {Lat: 6.5, Lon: 3.4}, "Lima": {Lat: -12.0, Lon: -77.0}, "Lisbon": {Lat: 38.7, Lon: -9.1},
		"London": {Lat: 51.5, Lon: -0.1}, "Los Angeles": {Lat: 34.1, Lon: -118.2}, "Madrid": {Lat: 40.4, Lon: -3.7},
		"Manila": {Lat: 14.6, Lon: 121.0}, "Melbourne": {Lat: -37.8, Lon: 145.0}, "Mexico City": {Lat: 19.4, Lon: -99.1},
		"Miami": {Lat: 25.8, Lon: -80.2}, "Milan": {Lat: 45.5, Lon: 9.2}, "Montreal": {Lat: 45.5, Lon: -73.6},
		"Mumbai": {Lat: 19.1, Lon: 72.9}, "Munich": {Lat: 48.1, Lon: 11.6}, "Nairobi": {Lat: -1.3, Lon: 36.8},
		"New York": {Lat: 40.7, Lon: -74.0}, "Osaka": {Lat: 34.7, Lon: 135.5}, "Oslo": {Lat: 59.9, Lon: 10.7},
		"Paris": {Lat: 48.9, Lon: 2.4}, "Prague": {Lat: 50.1, Lon: 14.4}, "Reykjavik": {Lat: 64.1, Lon: -21.9},
		"Riga": {Lat: 56.9, Lon: 24.1}, "Rome": {Lat: 41.9, Lon: 12.5}, "San Francisco": {Lat: 37.8, Lon: -122.4},
		"Santiago": {Lat: -33.4, Lon: -70.7}, "Sao Paulo": {Lat: -23.6, Lon: -46.6}, "Seattle": {Lat: 47.6, Lon: -122.3},
		"Seoul": {Lat: 37.6, Lon: 127.0}, "Shanghai": {Lat: 31.2, Lon: 121.5}, "Singapore": {Lat: 1.4, Lon: 103.8},
		"Sofia": {Lat: 42.7, Lon: 23.3}, "Stockholm": {Lat: 59.3, Lon: 18.1}, "Sydney": {Lat: -33.9, Lon: 151.2},
		"Taipei": {Lat: 25.0, Lon: 121.6}, "Tallinn": {Lat: 59.4, Lon: 24.8}, "Tel Aviv": {Lat: 32.1, Lon: 34.8},
		"Tokyo": {Lat: 35.7, Lon: 139.7}, "Toronto": {Lat: 43.7, Lon: -79.4}, "Vancouver": {Lat: 49.3, Lon: -123.1},
		"Vienna": {Lat: 48.2, Lon: 16.4}, "Vilnius": {Lat: 54.7, Lon: 25.3}, "Warsaw": {Lat: 52.2, Lon: 21.0},
		"Washington": {Lat: 38.9, Lon: -77.0}, "Zurich": {Lat: 47.4, Lon: 8.5},
	}
}
