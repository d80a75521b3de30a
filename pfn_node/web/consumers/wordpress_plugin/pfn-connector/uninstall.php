<?php
/**
 * Forgets everything; the plugins that were installed stay.
 *
 * @package PFN_Connector
 */

defined( 'WP_UNINSTALL_PLUGIN' ) || exit;

foreach ( array( 'pfn_connector', 'pfn_connector_keys', 'pfn_connector_installed' ) as $option ) {
	delete_site_option( $option );
}
